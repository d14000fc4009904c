"""What an effort reaches, what it takes, and how its model bears damaged images.

    python benchmarks/finetune.py --data FOLDER [--effort balanced] [--seed 0] [--cache CACHE] [--keep OUT]

FOLDER is that of course.py; the holdout is the notebook's. One ``assay run`` as a process of its own, then
the saved model on images as they are and damaged: on those that the run kept aside (validation), and, with
--open-seal, for a final table, on the sealed ones. Choices are made on the former alone. Results go to
benchmarks/results/finetune.json, under effort and seed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

from assay._types import UNKNOWN, Labels, Pixels
from assay.data.dataset import Dataset, ReadOptions
from assay.data.images import to_square
from assay.data.read import read_dataset
from assay.data.split import seal_holdout
from assay.embed.chunks import read_chunks
from assay.learn.augment import compress, soften
from assay.measure import mcnemar, wilson
from assay.predict.runtime import Runtime, load_runtime
from assay.recipes.aside import set_aside
from assay.recipes.finished import read_finished_run
from assay.recipes.options import RunOptions
from assay.recipes.sealing import Sealed, close_seal
from assay.recipes.stored import stored_features

RESULTS = Path(__file__).parent / "results" / "finetune.json"
ASSAY = Path(sys.executable).parent / "assay"
SIDE = 32

DAMAGE: dict[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda image: image,
    "JPEG 75": lambda image: compress(image, 75),
    "JPEG 50": lambda image: compress(image, 50),
    "JPEG 30": lambda image: compress(image, 30),
    "JPEG 10": lambda image: compress(image, 10),
    "blurred": lambda image: soften(image, 0.2),
    "shrunk to three quarters": lambda image: soften(image, 0.75),
    "brighter by 30 %": lambda image: np.clip(image * 1.3, 0, 255).astype(np.uint8),
    "darker by 40 %": lambda image: (image * 0.6).astype(np.uint8),
}


def main() -> None:
    """Run, read what the run says, damage images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of features; default: a temporary one")
    parser.add_argument("--keep", type=Path, help="folder for the run; default: a temporary one")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open-seal", action="store_true", help="damage the sealed images too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache, out = asked.cache or Path(scratch) / "cache", asked.keep or Path(scratch) / "out"
        found = {"machine": machine(), **run(asked, out, cache), "damaged": damaged(asked, out, cache)}
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    kept[f"{asked.effort} {asked.seed}"] = found
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    print(json.dumps(found, indent=1))


def options(asked: argparse.Namespace, cache: Path) -> RunOptions:
    """Those of the run, as far as they decide who sees which image."""
    read = ReadOptions(noisy=asked.data / "noisy_labels.csv", trusted=asked.data / "clean_labels.csv")
    return RunOptions(read=read, cache=cache, holdout_split="notebook", seed=asked.seed)


def run(asked: argparse.Namespace, out: Path, cache: Path) -> dict[str, Any]:
    """One ``assay run``; a finished one in ``out`` is taken as it is."""
    read = options(asked, cache).read
    words = ["run", asked.data / "images.zip", "--noisy", read.noisy, "--trusted", read.trusted, "-o", out]
    more = ["--holdout-split", "notebook", "--effort", asked.effort, "--seed", asked.seed, "--json"]
    environment = {**os.environ, "ASSAY_CACHE": str(cache), "ASSAY_OFFLINE": "1"}
    start = time.perf_counter()
    command = [str(ASSAY), *map(str, (*words, *more))]
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    found, record = json.loads(printed), json.loads((out / "run.json").read_text())
    return {
        "process_s": round(time.perf_counter() - start, 1),
        "stages_s": record["seconds"],
        "fine_tuning": record.get("fine_tuning"),
        "cost": found["cost"],
        "labels": found["labels"],
        "accuracy": {
            name: report["accuracy"] | {"n": report["n"]} for name, report in found["recipes"].items()
        },
    }


def damaged(asked: argparse.Namespace, out: Path, cache: Path) -> dict[str, Any]:
    """Accuracy on each part by damage, each compared with the images as they are."""
    dataset = read_dataset(asked.data / "images.zip", options(asked, cache).read)
    runtime, sealed = load_runtime(out), reseal(asked, out, cache)
    parts = {"validation": set_aside(sealed.data, sealed.copies).watched}
    if asked.open_seal:
        parts["holdout"] = np.setdiff1d(sealed.holdout, sealed.leaked)
    return {
        name: dict(judge(runtime, pixels(dataset, rows), dataset.trusted[rows]))
        for name, rows in parts.items()
    }


def reseal(asked: argparse.Namespace, out: Path, cache: Path) -> Sealed:
    """The parts that the run made."""
    finished = read_finished_run(out)
    dataset = read_dataset(asked.data / "images.zip", options(asked, cache).read)
    _, features = stored_features(finished, dataset.source, cache)
    split = seal_holdout(dataset.trusted, how="notebook", seed=asked.seed)
    return close_seal(dataset.with_skipped(features.skipped), split, features, options(asked, cache))


def pixels(dataset: Dataset, rows: Labels) -> list[Pixels]:
    """The images at ``rows``, as they are."""
    wanted = set(rows.tolist())
    found = {
        row: square
        for chunk in read_chunks(dataset, SIDE, (), 2)
        for row, square in chunk.decoded.items()
        if row in wanted
    }
    return [found[row] for row in rows.tolist()]


def judge(runtime: Runtime, images: list[Pixels], truth: Labels) -> Iterator[tuple[str, dict[str, Any]]]:
    """The accuracy after each damage, with its interval and the change against the images as they are."""
    assert (truth != UNKNOWN).all()
    clean: np.ndarray | None = None
    for name, damage in DAMAGE.items():
        squares = np.stack([to_square(damage(image), runtime.size) for image in images])
        predicted = runtime.probabilities(squares).argmax(axis=1)
        right = int((predicted == truth).sum())
        clean = predicted if clean is None else clean
        change = mcnemar(truth, clean, predicted).difference.to_json()
        yield name, {**wilson(right, len(truth)).to_json(), "n": len(truth), "change": change}


if __name__ == "__main__":
    main()
