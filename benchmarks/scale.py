"""A run of a million drawn images in shards: memory, time, and how right its labels are.

    python benchmarks/scale.py --place FOLDER [--images 1000000] [--engine local] [--sample 100000] [--killed]

FOLDER gets the images (Parquet files with PNG, 0.6 GB a million), their labels, the cache and the run. Each
image shows one of ten drawn patterns of 8 x 8 blocks under as much noise that nobody could name all of them:
the best possible classifier is known, and so is the best possible corrected label. Memory is the sum over the
command and all that it started. With --killed, a process that embeds and then the command itself are killed
while --engine ray embeds; the same command goes on, and its shards are compared with those of --engine local.
Results go to benchmarks/results/scale.json.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from _shared import ASSAY, keep, measure
from PIL import Image
from scipy.special import softmax

from assay.data.files import file_digest
from assay.data.simulate import spoil, symmetric
from assay.scale.rows import SHARD

CLASSES, BLOCKS, NOISE = 10, 8, 20.0
PATTERN = 4.0
"""Deviation of the patterns, in gray levels: two of them are about four deviations of the noise apart."""
WRONG, TRUSTED = 0.4, 2_000


def main() -> None:
    """Draw the images, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--sample", type=int, default=100_000)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--killed", action="store_true")
    arguments = parser.parse_args()
    place, n = arguments.place / str(arguments.images), arguments.images
    expected = draw(place, n)
    command = [ASSAY, "run", place / "images", "--trusted", place / "trusted.csv", "--holdout", 500]
    command += ["--sample", arguments.sample, "--backbone", arguments.backbone]
    words = [*map(str, command)]
    if arguments.killed:
        keep("scale", f"{n:,} images, ray, killed twice", killed(words, place))
        return
    words += ["--engine", arguments.engine, "-o", str(place / f"out-{arguments.engine}")]
    found = measure(words, place / f"cache-{arguments.engine}", every_s=0.5)
    right = compare(place, place / f"out-{arguments.engine}")
    name = f"{n:,} images, {arguments.engine}, {arguments.backbone}, sample {arguments.sample:,}"
    keep("scale", name, found | expected | right)


def draw(place: Path, n: int) -> dict[str, Any]:
    """Write the images and labels; how right the best possible predictions and corrected labels are."""
    start = time.perf_counter()
    (place / "images").mkdir(parents=True, exist_ok=True)
    shards = range(-(-n // SHARD))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(draw_part, [place] * len(shards), shards, [n] * len(shards)))
    truth = np.concatenate([part[0] for part in parts])
    np.save(place / "truth.npy", truth)
    trusted = np.sort(np.random.default_rng(1).permutation(n)[:TRUSTED])
    lines = [f"{row:09d}.png,class {truth[row]}" for row in trusted.tolist()]
    (place / "trusted.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    images, labels = (sum(part[at] for part in parts) / n for at in (1, 2))
    print(f"drawn in {time.perf_counter() - start:.0f} s", flush=True)
    return {"best_predictions": round(images, 4), "best_labels": round(labels, 4)}


def draw_part(place: Path, shard: int, n: int) -> tuple[np.ndarray, int, int]:
    """One file; the true classes, and how many of the best predictions and corrected labels are right."""
    patterns = np.random.default_rng(0).normal(0, PATTERN, (CLASSES, BLOCKS, BLOCKS, 3))
    rows = range(shard * SHARD, min((shard + 1) * SHARD, n))
    rng = np.random.default_rng([2, shard])
    truth = rng.integers(0, CLASSES, len(rows))
    transition = symmetric(CLASSES, WRONG)
    noisy = spoil(truth, transition, 1_000 + shard)
    blocks = 128 + patterns[truth] + rng.normal(0, NOISE, (len(rows), BLOCKS, BLOCKS, 3))
    blocks = np.clip(np.round(blocks), 0, 255).astype(np.uint8)
    distance = np.stack(
        [np.square(blocks - 128.0 - pattern).sum(axis=(1, 2, 3)) for pattern in patterns], axis=1
    )
    alone = softmax(-distance / (2 * NOISE**2), axis=1)
    best = alone * transition[:, noisy].T
    path = place / "images" / f"{shard:05d}.parquet"
    if not path.exists():
        images = []
        for row, few in zip(rows, blocks, strict=True):
            buffer = BytesIO()
            Image.fromarray(few.repeat(4, axis=0).repeat(4, axis=1)).save(buffer, "PNG", compress_level=1)
            images.append({"bytes": buffer.getvalue(), "path": f"{row:09d}.png"})
        labels = [f"class {label}" for label in noisy.tolist()]
        pl.DataFrame({"image": images, "label": labels}).write_parquet(path)
    right = (alone.argmax(axis=1) == truth).sum(), (best.argmax(axis=1) == truth).sum()
    return truth, int(right[0]), int(right[1])


def compare(place: Path, out: Path) -> dict[str, Any]:
    """How right the corrected labels are, of images that were learned from and of the others."""
    labels = pl.read_parquet(
        out / "labels" / "*.parquet", columns=["file", "corrected_label", "learned_from", "action"]
    )
    row = labels["file"].str.head(9).cast(pl.Int64).to_numpy()
    right = labels["corrected_label"].to_numpy() == np.char.add(
        "class ", np.load(place / "truth.npy")[row].astype(str)
    )
    learned, trusted = labels["learned_from"].to_numpy(), labels["action"].to_numpy() == "trusted"
    facts = json.loads((out / "shards.json").read_text())
    return {
        "rows": len(set(row.tolist())),
        "learned_from": int(learned.sum()),
        "right_learned": round(float(right[learned & ~trusted].mean()), 4),
        "right_others": round(float(right[~learned].mean()), 4) if not learned.all() else None,
        "seconds_of": facts.get("seconds"),
    }


def killed(words: list[str], place: Path) -> dict[str, Any]:
    """Shards of Ray, killed twice, and of one machine: how many there are, and whether they are equal."""
    measure([*words, "--engine", "local", "-o", str(place / "out-local")], place / "cache-local", every_s=0.5)
    here, cache = shards_of(place / "cache-local"), place / "cache-ray"
    command = [*words, "--engine", "ray", "-o", str(place / "out-ray")]
    environment = {**os.environ, "ASSAY_CACHE": str(cache)}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(shards_of(cache)) >= len(here) // 4, first)
    below = psutil.Process(first.pid).children(recursive=True)
    workers = [process for process in below if "MapWorker" in process.name()]
    workers[0].kill()
    wait_for(lambda: len(shards_of(cache)) >= len(here) // 2, first)
    first.kill()
    first.wait()
    psutil.wait_procs(below, timeout=60)
    at_kill = len(shards_of(cache))
    found = measure(command, cache, every_s=0.5)
    there = shards_of(cache)
    labels = [
        pl.read_parquet(place / f"out-{engine}" / "labels" / "*.parquet") for engine in ("local", "ray")
    ]
    return {
        "shards": len(here),
        "when_killed": at_kill,
        "same_shards": here == there,
        "same_labels": labels[0].equals(labels[1]),
        "rows": labels[1]["file"].n_unique(),
        **found,
    }


def shards_of(cache: Path) -> dict[str, str]:
    """Name and sha256 of each."""
    files = (cache / "shards").rglob("*.parquet")
    return {file.name: file_digest(file) for file in files}


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until it holds; SystemExit if the process ends before."""
    while not holds():
        if process.poll() is not None:
            raise SystemExit("the command ended before it could be killed")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
