"""Few trusted labels, or none: how right corrected labels and noise rates are.

    python benchmarks/labels.py --data FOLDER --human FILE --cache CACHE [--draws 5] [--trusted 0 50 200 1000]

FOLDER is that of course.py; FILE has people's labels of its first 10,000 images in columns file, worst,
random1. Two kinds more: the noisy labels of FOLDER (60 % wrong, symmetric), and drawn ones, 20 % wrong, that
depend on the class. Trusted images are drawn at random and all are trained on, by the steps of ``assay run
--holdout 0``; right labels are counted on the others. Without trusted labels each seed draws other folds. The
rate's interval is counted over 200 draws of trusted labels with the predictions of a run without any. Results
go to benchmarks/results/labels.json.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep, trusted_views

from assay.correct.evidence import NoisyLabels
from assay.correct.result import Correction, correct_labels
from assay.data.split import folds
from assay.noise import estimate_noise
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels, Matrix

K, WORST = 10, "worst"
NEXT = np.array([8, 9, 0, 5, 7, 3, 4, 4, 0, 1])
"""The class that each class is called where it is called wrong; how often, in RATES."""
RATES = np.array([0.1, 0.15, 0.25, 0.4, 0.25, 0.3, 0.1, 0.15, 0.1, 0.2])


def main() -> None:
    """Measure each kind of labels, number of trusted ones and draw; keep each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--trusted", type=int, nargs="+", default=[0, 50, 200, 1_000])
    asked = parser.parse_args()
    truth, views = trusted_views(asked.data, asked.cache)
    kinds = read_kinds(asked.data, asked.human, truth)
    for n in asked.trusted:
        for name, noisy in kinds.items() if n == 0 else [(WORST, kinds[WORST])]:
            for seed in range(2 if n == 0 else asked.draws):
                found, figures = measure(views, noisy, truth, n, seed)
                keep("labels", f"{name}, {n} trusted, seed {seed}", figures)
                if n == 0 and seed == 0:
                    keep("labels", f"{name}, rate", cover(found, noisy, truth))


def read_kinds(data: Path, human: Path, truth: Labels) -> dict[str, Labels]:
    """The noisy labels of each kind."""
    course = np.array((data / "noisy_labels.csv").read_text().split(), dtype=np.int64)[: len(truth)]
    with human.open(encoding="utf-8") as lines:
        rows = [*csv.DictReader(lines)]
    people = {name: np.array([int(row[name]) for row in rows]) for name in (WORST, "random1")}
    flipped = np.random.default_rng(0).random(len(truth)) < RATES[truth]
    by_class = np.where(flipped, NEXT[truth], truth)
    return people | {"symmetric": course, "by class": by_class}


def measure(
    views: tuple[Matrix, ...], noisy: Labels, truth: Labels, n: int, seed: int
) -> tuple[Correction, dict[str, Any]]:
    """One draw of ``n`` trusted labels."""
    trusted = np.full(len(truth), UNKNOWN)
    drawn = np.random.default_rng(100 + seed).choice(len(truth), n, replace=False)
    trusted[drawn] = truth[drawn]
    fold_of = folds(trusted, 5, seed)
    classes = [str(label) for label in range(K)]
    found = correct_labels(
        views, NoisyLabels(noisy), trusted, fold_of, make_head, classes=classes, seed=seed, workers=2
    )
    rest = trusted == UNKNOWN

    def right(labels: Labels) -> float:
        return round(100 * float((labels == truth)[rest].mean()), 2)

    return found, {
        "noisy": right(noisy),
        "pred_probs": right(found.corrected.pred_probs.argmax(axis=1)),
        "corrected": right(found.corrected.posterior.argmax(axis=1)),
        "confidence": round(100 * float(found.corrected.posterior[rest].max(axis=1).mean()), 2),
        "rate": found.noise.rate.to_json(),
        "true rate": float((noisy != truth).mean()),
    }


def cover(found: Correction, noisy: Labels, truth: Labels) -> dict[str, Any]:
    """How often the rate's interval holds the truth, its error and width, and those of counting alone."""
    rate, figures = float((noisy != truth).mean()), dict[str, Any]()
    for n in (50, 100, 200, 1_000):
        of_ways: dict[str, list[tuple[float, float, float]]] = {"counted": [], "predicted": []}
        for seed in range(200):
            trusted = np.full(len(truth), UNKNOWN)
            drawn = np.random.default_rng(seed).choice(len(truth), n, replace=False)
            trusted[drawn] = truth[drawn]
            for way, probs in (("counted", None), ("predicted", found.corrected.pred_probs)):
                one = estimate_noise(noisy, trusted, K, pred_probs=probs).rate
                of_ways[way].append((one.estimate, one.low, one.high))
        for way, draws in of_ways.items():
            estimate, low, high = np.array(draws).T
            figures[f"{n} trusted, {way}"] = {
                "rmse": round(float(np.sqrt(np.square(estimate - rate).mean())), 4),
                "covered": float(((low <= rate) & (rate <= high)).mean()),
                "width": round(float((high - low).mean()), 3),
            }
    return figures


if __name__ == "__main__":
    main()
