"""Photos of 12 megapixels through the default backbone: images a second, and whether memory stays flat.

    python benchmarks/photos.py [--photos 2000] [--megapixels 12]

The photos are drawn and put into a temporary folder: a few pictures of smooth shapes and grain, each
saved many times with another comment, so that no two files are equal and each is decoded and embedded.
Results are written to benchmarks/results/photos.json.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from _shared import machine, write_results
from PIL import Image

from assay.data.read import read_images
from assay.embed import DEFAULT_BACKBONE, DEFAULT_SIZE, embed_images, load_backbone
from assay.evaluate.cost import peak_memory_bytes

PICTURES = 6
"""Different pictures among the photos."""
MIB = 2**20


def main() -> None:
    """Draw, embed, print, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--workers", type=int, default=2, help="threads that read and decode")
    parser.add_argument("--place", type=Path, help="where the temporary folder is made; needs 3 MB a photo")
    parser.add_argument("--data", type=Path, help="not needed: every benchmark takes it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.place) as temporary:
        photos = Path(temporary) / "photos"
        # In a process of its own, whose memory is not counted with ours.
        drawing = get_context("spawn").Process(
            target=draw, args=(photos, arguments.photos, arguments.megapixels)
        )
        drawing.start()
        drawing.join()
        if drawing.exitcode:
            raise SystemExit(f"drawing the photos ended with {drawing.exitcode}")
        found = measure(photos, Path(temporary) / "cache", arguments.workers)
    found |= {"megapixels": arguments.megapixels, "command": f"python {' '.join(sys.argv)}"}
    write_results("photos", found)
    print(json.dumps(found, indent=1))


def draw(folder: Path, number: int, megapixels: float) -> None:
    """Put that many JPEG files of 4:3 into ``folder``, no two of them equal."""
    folder.mkdir()
    pictures = [picture(seed, megapixels) for seed in range(min(PICTURES, number))]
    for place in range(number):
        data = pictures[place % len(pictures)]
        comment = b"%010d" % place
        segment = b"\xff\xfe" + (2 + len(comment)).to_bytes(2, "big") + comment
        (folder / f"{place:06d}.jpg").write_bytes(data[:2] + segment + data[2:])


def picture(seed: int, megapixels: float) -> bytes:
    """A JPEG of smooth shapes with some grain, as large as a phone would make it."""
    generator = np.random.default_rng(seed)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = (round(height * 4 / 3), height)
    shapes = Image.fromarray(generator.integers(0, 256, (9, 12, 3), np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    grain = Image.fromarray(generator.integers(0, 256, (height, size[0]), np.uint8)).convert("RGB")
    buffer = BytesIO()
    Image.blend(shapes, grain, 0.08).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(photos: Path, cache: Path, workers: int) -> dict[str, Any]:
    """Embed a folder with nothing cached, noting the peak of memory after each chunk."""
    backbone = load_backbone(DEFAULT_BACKBONE, cache)
    dataset = read_images(photos)
    loading, peaks = peak_memory_bytes(), dict[int, int]()
    forget_peak()
    loaded = peak_memory_bytes()

    def note(_: str, done: int, total: int) -> None:
        peaks[done] = peak_memory_bytes()
        print(f"{done} of {total}: peak {peaks[done] / MIB:.0f} MiB", file=sys.stderr, flush=True)

    start = time.perf_counter()
    features = embed_images(dataset, backbone, cache, workers=workers, progress=note)
    seconds = time.perf_counter() - start
    # Chunks are noted whole: the first that ends at or after a tenth.
    tenth = next(done for done in peaks if done >= len(dataset) / 10)
    return {
        "data": f"{PICTURES} drawn pictures, each saved many times with another comment",
        "photos": len(dataset),
        "skipped": len(features.skipped),
        "mib_a_photo": round(sum(file.stat().st_size for file in photos.iterdir()) / len(dataset) / MIB, 2),
        "backbone": f"{DEFAULT_BACKBONE} at {DEFAULT_SIZE} px, {backbone.plan.key}, two views",
        "seconds": round(seconds, 1),
        "images_a_second": {
            "all": round(features.computed / seconds, 1),
            "decode, each thread": round(features.computed / features.seconds["decode"], 1),
            "embed": round(features.computed / features.seconds["embed"], 1),
        },
        "peak_memory_mib": {
            "while the network was loaded and timed": round(loading / MIB),
            "before the first photo": round(loaded / MIB),
            f"after {tenth} photos": round(peaks[tenth] / MIB),
            "at the end": round(peak_memory_bytes() / MIB),
        },
        "machine": machine(),
        "threads": {"decode": workers, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set")},
        "versions": {name: version(name) for name in ("assay", "numpy", "pillow", "timm", "torch")},
        "python": platform.python_version(),
    }


def forget_peak() -> None:
    """Let the peak of memory start anew from what is held now: loading the network needs more than using it.

    Source : proc(5), /proc/pid/clear_refs
    """
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
