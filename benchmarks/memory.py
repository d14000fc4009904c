"""The most memory and the time that each command takes on photos, its decoder processes included.

    python benchmarks/memory.py --data FOLDER [--photos 2127] [--size 1600x1200] [--only run export]

FOLDER is that of course.py: its first images are enlarged and saved as JPEGs, so that a network learns from
them what it learns from the small ones. Memory is the sum over the command and all that it started (PSS, so
that what they share counts once), read twenty times a second. Results go to benchmarks/results/memory.json.
"""

import argparse
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from _shared import ASSAY, image_names, keep, measure
from PIL import Image

TRUSTED = 5
"""One image in so many has a trusted label."""


def main() -> None:
    """Make the photos, run the commands one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=2127)
    parser.add_argument("--size", default="1600x1200")
    parser.add_argument("--only", nargs="+", help="commands; the run comes first in any case")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        make_photos(arguments.data, place, arguments.photos, arguments.size)
        for name, words in commands(place).items():
            if name != "run" and arguments.only and name not in arguments.only:
                continue
            found = measure([str(ASSAY), *map(str, words)], place / "cache")
            keep("memory", name, found | {"photos": arguments.photos, "size": arguments.size})


def commands(place: Path) -> dict[str, list[object]]:
    """What is run, with nothing cached at first."""
    photos, run = place / "photos", place / "run"
    labels = ["--noisy", place / "noisy.csv", "--trusted", place / "trusted.csv"]
    return {
        "run": ["run", photos, *labels, "-o", run],
        "audit": ["audit", run, "-o", place / "audit"],
        "report": ["report", run],
        "plan": ["plan", run],
        "export": ["export", run, "--precision", "int8", "-o", place / "small.onnx"],
        "predict": ["predict", run, photos, "-o", place / "predictions.csv"],
        "predict with int8": ["predict", place / "small.onnx", photos, "-o", place / "small.csv"],
        "evaluate": ["evaluate", run, photos, "--labels", place / "trusted.csv"],
    }


def make_photos(data: Path, place: Path, n: int, size: str) -> None:
    """The first images enlarged and with grain, their noisy labels, and trusted ones for some."""
    names, width_height = image_names(data)[:n], tuple(map(int, size.split("x")))
    (place / "photos").mkdir()
    with zipfile.ZipFile(data / "images.zip") as source, ProcessPoolExecutor() as pool:
        jobs = [
            pool.submit(enlarge, source.read(name), width_height, place / "photos" / f"{i:06d}.jpg", i)
            for i, name in enumerate(names)
        ]
    for job in jobs:
        job.result()
    noisy = (data / "noisy_labels.csv").read_text().split()[:n]
    trusted = (data / "clean_labels.csv").read_text().split()[:n]
    rows = [f"{i:06d}.jpg,{label}" for i, label in enumerate(noisy)]
    checked = [f"{i:06d}.jpg,{trusted[i]}" for i in range(0, n, TRUSTED)]
    for name, lines in (("noisy", rows), ("trusted", checked)):
        (place / f"{name}.csv").write_text("\n".join(["file,label", *lines]) + "\n")


def enlarge(image: bytes, size: tuple[int, int], target: Path, seed: int) -> None:
    """Save one as a JPEG of a camera's size."""
    large = Image.open(BytesIO(image)).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), np.uint8)
    Image.blend(large, Image.fromarray(grain).convert("RGB"), 0.05).save(target, "JPEG", quality=88)


if __name__ == "__main__":
    main()
