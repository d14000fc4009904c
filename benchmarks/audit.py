"""An audit of a finished run: seconds and memory, what the short cuts miss, which planted images are found.

    python benchmarks/audit.py --run RUN --images IMAGES --cache CACHE [--only speed recall planted]

RUN is a finished run on IMAGES whose features are in CACHE, such as ``cold`` of benchmarks/course.py with
``--keep``. Results are written to benchmarks/results/audit.json.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep, run_assay
from PIL import Image, ImageDraw

from assay.correct.near_duplicates import close_pairs, local_density, standardise
from assay.correct.outliers import find_outliers
from assay.embed.backbone import load_backbone
from assay.pipeline.finished import open_run, stored_features
from assay.types import UNKNOWN

SUBSET = 10_000
PLANTED = 100


def main() -> None:
    """Measure what was asked for, print it, keep the rest of the results file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    arguments = parser.parse_args()
    for name in arguments.only:
        keep("audit", name, MEASURES[name](arguments))


def speed(place: argparse.Namespace) -> dict[str, Any]:
    """One ``assay audit`` as a process of its own, reading and hashing the images included."""
    with tempfile.TemporaryDirectory() as out:
        took = run_assay("audit", place.run, place.images, "-o", out, "--json", "-q", cache=place.cache)
    facts = json.loads(took.printed)
    return {
        "images": facts["images"],
        "seconds": took.seconds,
        "processor_seconds": took.processor_s,
        "peak_memory_gib": took.peak_gib,
        "counts": facts["counts"],
        "redundant": facts["redundant"],
        "outliers": facts["outliers"],
    }


def recall(place: argparse.Namespace) -> dict[str, Any]:
    """Pairs that the bound lets through, against all pairs of a subset compared in full."""
    views, _, _ = _features(place)
    rows = np.sort(np.random.default_rng(0).choice(len(views[0]), SUBSET, replace=False))
    around = local_density(standardise([view[rows] for view in views]))
    limit = (1 - (0.75 * around.spacing) ** 2 / 2).astype(np.float32)
    fast = close_pairs(around.directions, limit)
    cosine = around.directions @ around.directions.T
    slow = np.nonzero(np.triu(cosine >= np.maximum(limit[:, None], limit), k=1))
    missed = {*zip(*slow, strict=True)} - {*zip(fast.one, fast.other, strict=True)}
    return {"images": SUBSET, "pairs": len(slow[0]), "missed": len(missed)}


def planted(place: argparse.Namespace) -> dict[str, Any]:
    """A hundred strangers of each kind among the images, without and with the trusted images' help."""
    views, trusted, record = _features(place)
    backbone = load_backbone(record["name"], place.cache, size=record["size"])
    if backbone.digest != record["digest"]:
        raise SystemExit("the features in the cache are of another backbone than this machine's")
    kinds = list(STRANGERS)
    drawn = [STRANGERS[kind](np.random.default_rng(row)) for kind in kinds for row in range(PLANTED)]
    resized_images = np.stack([_square(image, backbone.size) for image in drawn])
    both = (backbone.embed(resized_images), backbone.embed(np.ascontiguousarray(resized_images[:, :, ::-1])))
    features = standardise([np.concatenate([view, more]) for view, more in zip(views, both, strict=True)])
    n = len(views[0])
    is_trusted = np.concatenate([trusted != UNKNOWN, np.zeros(len(drawn), bool)])
    found = {}
    for way, known in (("trusted", is_trusted), ("alone", np.zeros(len(is_trusted), bool))):
        for share in (0.001, 0.01):
            outliers = find_outliers(features, known, share=share)
            assert outliers is not None
            hits = np.bincount((outliers.rows[outliers.rows >= n] - n) // PLANTED, minlength=len(kinds))
            found[f"{way} {share}"] = {
                "false_alarms": float(np.sum(outliers.rows < n) / np.sum(~known[:n])),
                "found": dict(zip(kinds, (hits / PLANTED).tolist(), strict=True)),
            }
    return found


MEASURES = {"speed": speed, "recall": recall, "planted": planted}


def _features(place: argparse.Namespace) -> tuple[tuple[np.ndarray, ...], np.ndarray, dict[str, Any]]:
    run = open_run(place.run, place.images, command="audit")
    _, found = stored_features(run, run.images, place.cache)
    return found.views, run.trusted, dict(run.record["backbone"])


def _square(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def _noise(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def _blur(generator: np.random.Generator) -> np.ndarray:
    return _square(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8), 32)


def _text(generator: np.random.Generator) -> np.ndarray:
    page = Image.new("RGB", (32, 32), "white")
    for top in range(0, 32, 8):
        line = "".join(generator.choice(list("abcdefghijk lmno"), 8))
        ImageDraw.Draw(page).text((0, top - 2), line, fill="black")
    return np.asarray(page)


def _chart(generator: np.random.Generator) -> np.ndarray:
    page = Image.new("RGB", (32, 32), "white")
    for left in range(2, 30, 5):
        colour = tuple(generator.integers(0, 256, 3).tolist())
        ImageDraw.Draw(page).rectangle([left, int(generator.integers(2, 28)), left + 3, 30], fill=colour)
    return np.asarray(page)


def _one_colour(generator: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(generator.integers(0, 256, 3, dtype=np.uint8), (32, 32, 3)).copy()


STRANGERS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blurred colours": _blur,
    "text": _text,
    "bar charts": _chart,
    "one colour": _one_colour,
}


if __name__ == "__main__":
    main()
