"""Images handed over from Python: what it costs to read, embed and run them, next to the same files.

    python benchmarks/in_memory.py --data FOLDER [--images 10000]

FOLDER is that of course.py. Each way is measured in a process and with a cache of its own, with the small
network ``tiny``, so that the ways differ as much as they can: a folder, a frame of paths, a list of
arrays, and a Hugging Face data set. ``read`` is ``assay.read_dataset``, ``embed`` reads, decodes and embeds.
Results go to benchmarks/results/in_memory.json.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep
from PIL import Image

import assay
from assay.evaluate import peak_memory_bytes

WAYS = ("folder", "frame", "arrays", "hugging-face")


def main() -> None:
    """Measure each way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.way is not None:
        measure(asked.way, asked.data, asked.folder, asked.images)
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(asked.data / "images.zip") as archive:
            archive.extractall(folder, archive.namelist()[: asked.images])
        for way in WAYS:
            words = ["--data", asked.data, "--images", asked.images, "--way", way, "--folder", folder]
            subprocess.run([sys.executable, __file__, *map(str, words)], check=True)


def measure(way: str, data: Path, folder: Path, n: int) -> None:
    """Time and memory of one way; what stands ready in a user's notebook is made before the clock starts."""
    labels = (data / "noisy_labels.csv").read_text().split()
    files = sorted(folder.rglob("*.png"))
    images, noisy = make(way, folder, files, labels)
    before, start = peak_memory_bytes(), time.perf_counter()
    dataset = assay.read_dataset(images, noisy=noisy)
    read = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        features = assay.embed_images(dataset, "tiny", cache=cache)
    done = time.perf_counter()
    figures = {
        "images": len(dataset),
        "read_s": round(read - start, 2),
        "embed_s": round(done - read, 2),
        "more_memory_mb": round((peak_memory_bytes() - before) / 2**20),
        "features_mean": round(float(np.mean(features.views[0])), 6),
    }
    keep("in_memory", f"{way}, {n:,}", figures)


def make(way: str, folder: Path, files: list[Path], labels: list[str]) -> tuple[Any, Any]:
    """(images, noisy labels) as a user has them."""
    named = labels[: len(files)]
    if way == "folder":
        return folder, named
    if way == "frame":
        import polars as pl

        return pl.DataFrame({"file": [*map(str, files)], "label": named}), "label"
    if way == "arrays":
        return [np.asarray(Image.open(io.BytesIO(file.read_bytes()))) for file in files], named
    import datasets

    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=sorted(set(labels)))}
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    columns = {"image": cells, "label": [int(label) for label in named]}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)), "label"


if __name__ == "__main__":
    main()
