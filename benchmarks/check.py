"""assay check: seconds for 5,000 new images, and what it reports of batches with and without faults.

    python benchmarks/check.py --data DATA --run RUN --cache CACHE --place PLACE [--only speed draws]

DATA holds the course data, RUN is a finished run on it whose holdout is left out, and CACHE has its features.
A run without 5,000 of the trusted images is made in PLACE; batches are drawn from these: their trusted labels
are the right ones. Results are written to benchmarks/results/check.json.
"""

import argparse
import csv
import io
import json
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _shared import image_names, keep, run_assay, zip_some
from audit import STRANGERS, _square
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_dataset
from assay.embed.backbone import load_backbone
from assay.embed.images import Features, embed_images
from assay.pipeline import check
from assay.pipeline.finished import open_run, stored_features
from assay.predict.model import read_model
from assay.types import UNKNOWN

NEW = 5_000
HOLDOUT = 1_000
DRAWS = 20
BATCH = 1_000
DRAWN = 200
"""Images of no class, of all kinds together."""


def main() -> None:
    """Measure what was asked for, print it, keep the rest of the results file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "run", "cache", "place"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    place = parser.parse_args()
    if not (place.place / "run" / "run.json").is_file():
        make_run(place)
    for name in place.only:
        keep("check", name, MEASURES[name](place))


def make_run(place: argparse.Namespace) -> None:
    """A run without the new images, the new images, and strangers."""
    place.place.mkdir(parents=True, exist_ok=True)
    names = np.array(image_names(place.data), dtype=object)
    noisy = (place.data / "noisy_labels.csv").read_text().split()
    trusted = (place.data / "clean_labels.csv").read_text().split()
    with (place.run / "holdout.csv").open() as file:
        held = {row["file"] for row in csv.DictReader(file)}
    known = [row for row in range(len(trusted)) if names[row] not in held]
    new = np.sort(np.random.default_rng(0).permutation(known)[:NEW])
    old = np.setdiff1d(np.arange(len(names)), new)
    zip_some(place.data, names[old].tolist(), place.place / "old.zip")
    zip_some(place.data, names[new].tolist(), place.place / "new.zip")
    for file, rows, labels in (
        ("noisy.csv", old, noisy),
        ("trusted.csv", np.setdiff1d(known, new), trusted),
        ("new.csv", new, trusted),
    ):
        lines = [f"{names[row]},{labels[row]}" for row in rows]
        (place.place / file).write_text("\n".join(["file,label", *lines]) + "\n")
    words = ["--noisy", place.place / "noisy.csv", "--trusted", place.place / "trusted.csv"]
    words += ["--holdout", HOLDOUT, "-o", place.place / "run", "-q"]
    run_assay("run", place.place / "old.zip", *words, cache=place.cache)


def speed(place: argparse.Namespace) -> dict[str, Any]:
    """One command on all new images, as files that no cache has features of."""
    again, mark = place.place / "again.zip", PngInfo()
    mark.add_text("Comment", str(time.time()))
    with zipfile.ZipFile(place.place / "new.zip") as source, zipfile.ZipFile(again, "w") as target:
        for name in source.namelist():
            saved = io.BytesIO()
            Image.open(io.BytesIO(source.read(name))).save(saved, "PNG", pnginfo=mark)
            target.writestr(name, saved.getvalue())
    words = [place.place / "run", again, "--labels", place.place / "new.csv", "--json", "-q"]
    took = run_assay("check", *words, cache=place.cache)
    facts = json.loads(took.printed)
    return {
        "images": facts["images"],
        "seconds": took.seconds,
        "processor_seconds": took.processor_s,
        "peak_memory_gib": took.peak_gib,
        **{name: facts[name] for name in ("counts", "reported", *check.TESTS)},
    }


def draws(place: argparse.Namespace) -> dict[str, Any]:
    """How often each test reports batches of 1,000 new images, by what was planted."""
    check._duplicates = lambda *_: []  # ten seconds each, and no test
    run = open_run(place.place / "run", command="check")
    _, known = stored_features(run, run.images, place.cache)
    options = ReadOptions(noisy=place.place / "new.csv")
    dataset, record = read_dataset(place.place / "new.zip", options), run.record["backbone"]
    backbone = load_backbone(record["name"], place.cache, size=record["size"], dtype=record["plan"]["dtype"])
    features = embed_images(dataset, backbone, place.cache, mirrored=False).views[0]
    kinds = list(STRANGERS)
    drawn = [STRANGERS[kinds[row % len(kinds)]](np.random.default_rng(row)) for row in range(DRAWN)]
    squares = np.stack([_square(one, backbone.size) for one in drawn])
    strangers, head, k = backbone.embed(squares), read_model(place.place / "run"), len(run.labels)
    index = {label: at for at, label in enumerate(run.labels)}
    truth = np.array([index[dataset.classes[label]] for label in dataset.noisy])
    found: dict[str, Counter[str]] = {}
    shares: dict[str, list[tuple[float, bool]]] = {}
    for draw in range(DRAWS):
        generator = np.random.default_rng(draw)
        for planted in ("nothing", "5 % wrong labels", "2 % outliers", "two classes twice as often"):
            weight = np.ones(len(truth))
            if planted.startswith("two"):
                weight[truth < 2] = 2.0
            rows = generator.choice(len(truth), BATCH, replace=False, p=weight / weight.sum())
            labels, vectors, wrong = truth[rows].copy(), np.asarray(features[rows], np.float32), 0.0
            if planted.startswith("5"):
                some = generator.choice(BATCH, BATCH // 20, replace=False)
                labels[some] = (labels[some] + generator.integers(1, k, len(some))) % k
                wrong = 0.05
            elif planted.startswith("2"):
                some = generator.choice(BATCH, BATCH // 50, replace=False)
                vectors[some] = strangers[generator.choice(DRAWN, len(some), replace=False)]
                labels[some] = UNKNOWN
            batch = Dataset(
                tuple(map(str, rows)), dataset.source, run.labels, labels, np.full(BATCH, UNKNOWN)
            )
            contents = tuple(bytes([row % 256, row // 256]) for row in range(BATCH))
            some_features = Features((vectors,), contents, {}, {}, 0)
            one = check.check_batch(
                run, known, batch, some_features, labels, head.probabilities(vectors), seed=draw
            )
            found.setdefault(planted, Counter()).update([*one.reported, "any" if one.reported else "none"])
            assert one.wrong_labels is not None
            share = one.wrong_labels.share
            shares.setdefault(planted, []).append((share.estimate, share.low <= wrong <= share.high))
            print(
                draw,
                planted,
                one.reported,
                share,
                one.outliers,
                one.class_drift,
                one.feature_drift,
                flush=True,
            )
    return {
        planted: {
            "draws": DRAWS,
            "reported": dict(found[planted]),
            "share of wrong labels, mean": float(np.mean([share for share, _ in shares[planted]])),
            "interval holds": int(sum(holds for _, holds in shares[planted])),
        }
        for planted in found
    }


MEASURES = {"speed": speed, "draws": draws}


if __name__ == "__main__":
    main()
