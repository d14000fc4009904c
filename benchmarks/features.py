"""A run on features in place of images: its labels against those of the run on images, its time and memory.

    python benchmarks/features.py --data FOLDER --features plain.npy --run RUN [--sizes 10000 50000]

FOLDER is that of course.py. plain.npy holds the features (50,000, D) of its images in natural order: those
that ``--preset fast`` computes at 160 px; RUN is the finished run on the images themselves with
``--holdout-split notebook``. Of fewer rows the first are taken, every fifth of them trusted. Results go to
benchmarks/results/features.json.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep, run_assay

TRUSTED = 5
"""Of a part of the rows, one in so many has a trusted label."""


def main() -> None:
    """Run on each number of rows; compare the labels of all of them with those of the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 50_000])
    arguments = parser.parse_args()
    rows = np.load(arguments.features, mmap_mode="r")
    with tempfile.TemporaryDirectory() as temporary:
        for n in arguments.sizes:
            found = measure(arguments.data, rows[:n], len(rows), Path(temporary) / str(n))
            if n == len(rows):
                found |= compare(Path(temporary) / str(n) / "out", arguments.run)
            keep("features", f"{n}", found)


def measure(data: Path, rows: np.ndarray, whole: int, place: Path) -> dict[str, Any]:
    """What ``assay run`` and ``assay predict`` take, and what the run measured."""
    n, out = len(rows), place / "out"
    place.mkdir()
    np.save(place / "v.npy", rows)
    noisy = (data / "noisy_labels.csv").read_text().split()[:n]
    trusted = (data / "clean_labels.csv").read_text().split()[:n]
    if n < whole:
        trusted = [label if row % TRUSTED == 0 else "" for row, label in enumerate(trusted)]
    for name, lines in (("noisy", noisy), ("trusted", trusted)):
        (place / f"{name}.csv").write_text("\n".join(lines) + "\n")
    words: list[object] = ["run", "--features", place / "v.npy", "-o", out, "-q"]
    words += ["--noisy", place / "noisy.csv", "--trusted", place / "trusted.csv"]
    words += ["--holdout-split", "notebook"] if n == whole else []
    ran = run_assay(*words, cache=place / "cache")
    predict = ["predict", out, "--features", place / "v.npy", "-o", place / "p.csv", "-q"]
    predicted = run_assay(*predict, cache=place / "cache")
    model = out / "model" / "model.onnx"
    return figures(out) | {
        "rows": n,
        "features": rows.shape[1],
        "type": str(rows.dtype),
        "trusted": sum(map(bool, trusted)),
        "model_bytes": model.stat().st_size,
        "run": {"seconds": ran.seconds, "processor_s": ran.processor_s, "peak_gib": ran.peak_gib},
        "predict": {
            "seconds": predicted.seconds,
            "processor_s": predicted.processor_s,
            "peak_gib": predicted.peak_gib,
        },
    }


def figures(run: Path) -> dict[str, Any]:
    """Accuracies with their intervals, and whether the model beats its baseline."""
    found = json.loads((run / "evaluation.json").read_text())
    measured = {name: [one["n"], one["accuracy"]] for name, one in found["systems"].items()}
    paired = found["systems"]["assay"]["paired"]["difference"]
    return {"systems": measured, "above_baseline": paired, "better": found["better_than_baseline"]}


def compare(ours: Path, images: Path) -> dict[str, Any]:
    """How often both runs give one label, and the figures of the run on images."""
    labels = [[row["corrected_label"] for row in rows(run / "labels.csv")] for run in (ours, images)]
    same = np.array(labels[0]) == np.array(labels[1])
    actions = [np.array([row["action"] for row in rows(run / "labels.csv")]) for run in (ours, images)]
    sure = np.isin(actions[0], ["kept", "changed"]) & np.isin(actions[1], ["kept", "changed"])
    return {
        "same_label": float(same.mean()),
        "same_label_where_both_are_sure": float(same[sure].mean()),
        "images": figures(images),
    }


def rows(file: Path) -> list[dict[str, str]]:
    """A table of a run, in the order of the images."""
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


if __name__ == "__main__":
    main()
