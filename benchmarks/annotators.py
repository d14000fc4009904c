"""Consensus of several annotators, side by side with CROWDLAB's on the same predictions; spammers; intervals.

    python benchmarks/annotators.py --data FOLDER --human FILE [--cache CACHE] [--cleanlab PYTHON]

FOLDER is that of course.py; FILE has the columns file, random1, random2, random3: labels of three people
for the first 10,000 images. Features are Lite2's at 160 pixels, head and folds those of ``assay run``,
fitted once without any trusted label; then 0 to 1,000 random images are trusted, five draws each. Judged on
the images that are not trusted. PYTHON is an interpreter that has cleanlab, which nothing else here needs.

Simulated annotators have accuracies of Beta(8, 3), shifted by how hard a class is for people, and err as
people do. Every third spammer labels evenly at random, every third gives one label in nine of ten, and every
third has shares of classes of their own.
Results go to benchmarks/results/annotators.json.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _shared import image_names, keep, zip_some
from sklearn.metrics import roc_auc_score

from assay import embed_images, read_dataset
from assay.correct.annotators import AnnotatedLabels, fit_annotators
from assay.correct.crossfit import TrainingData, cross_fit
from assay.correct.posterior import weigh
from assay.data.dataset import Annotations
from assay.data.split import folds
from assay.data.tables import read_table
from assay.embed.device import one_thread_each
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels, Matrix, Probs, Transition

N, K = 10_000, 10
SIZES, DRAWS = (0, 50, 200, 1_000), 5
CASES = {"people": (3, 0), "30": (30, 6), "500": (500, 100)}
"""Case -> annotators, spammers among them."""

CROWDLAB = """
import sys
import numpy as np
from cleanlab.multiannotator import get_label_quality_multiannotator as crowdlab
found = np.load(sys.argv[1])
table = np.full(found["shape"], np.nan)
table[found["image"], found["annotator"]] = found["label"]
kept = np.flatnonzero(~np.isnan(table).all(axis=0))
result = crowdlab(table[:, kept], found["pred_probs"], verbose=False)
quality = np.full(table.shape[1], np.nan)
quality[kept] = result["annotator_stats"].sort_index()["annotator_quality"]
np.savez(sys.argv[2], consensus=result["label_quality"]["consensus_label"].to_numpy(), quality=quality)
"""


def human_labels(file: Path) -> Labels:
    """(N, 3)"""
    table = read_table(file)
    places = [(table.columns or ()).index(f"random{number}") for number in (1, 2, 3)]
    return np.array([[int(row[place]) for place in places] for row in table.rows])


def simulate(truth: Labels, confusion: Transition, case: str, seed: int = 0) -> tuple[Annotations, Labels]:
    """Three labels an image, and which annotators are spammers."""
    j, n_spam = CASES[case]
    rng = np.random.default_rng(seed)
    spammers = np.sort(rng.choice(j, n_spam, replace=False))
    skill, load = rng.beta(8, 3, j), rng.dirichlet(np.full(j, 2.0))
    annotator = np.concatenate([rng.choice(j, 3, replace=False, p=load) for _ in truth])
    image = np.repeat(np.arange(len(truth)), 3)
    easy = np.log(np.diag(confusion) / (1 - np.diag(confusion)))
    odds = np.log(skill / (1 - skill))[annotator] + (easy - easy.mean())[truth[image]]
    mistakes = confusion * (1 - np.eye(K))
    wrong = (mistakes / mistakes.sum(axis=1, keepdims=True)).cumsum(axis=1)[truth[image]]
    label = (rng.random((len(image), 1)) > wrong).sum(axis=1).clip(0, K - 1)
    right = rng.random(len(image)) < 1 / (1 + np.exp(-odds))
    label[right] = truth[image][right]
    for number, one in enumerate(spammers):
        own = np.flatnonzero(annotator == one)
        constant = 0.9 * np.eye(K)[rng.integers(K)] + 0.1 / K
        shares = (np.full(K, 1 / K), constant, rng.dirichlet(np.ones(K)))[number % 3]
        label[own] = rng.choice(K, len(own), p=shares)
    return Annotations(image, annotator, label, tuple(map(str, range(j)))), spammers


def crowdlab(python: str, given: Annotations, pred_probs: Probs) -> tuple[Labels, np.ndarray]:
    """(consensus, quality of each annotator)"""
    with tempfile.TemporaryDirectory() as folder:
        places = [str(Path(folder) / name) for name in ("in.npz", "out.npz")]
        shape = (len(pred_probs), len(given.names))
        np.savez(
            places[0],
            image=given.image,
            annotator=given.annotator,
            label=given.label,
            pred_probs=pred_probs,
            shape=shape,
        )
        subprocess.run([python, "-c", CROWDLAB, *places], check=True)
        found = np.load(places[1])
        return found["consensus"], found["quality"]


def measure(
    views: tuple[Matrix, ...], truth: Labels, given: Annotations, spammers: Labels, python: str | None
) -> dict[str, Any]:
    """Shares of right consensus labels, AUROC of spammers, coverage of the intervals of all others."""
    votes = np.zeros((N, K))
    np.add.at(votes, (given.image, given.label), 1)
    labels = AnnotatedLabels(given, votes.argmax(axis=1), np.ones(N, dtype=bool))
    nothing = np.full(N, UNKNOWN)
    fold_of = folds(nothing, 5, 0)
    with one_thread_each():
        raw = cross_fit(
            TrainingData(views, labels, nothing, K), fold_of, make_head, seed=0, workers=2
        ).pred_probs
    found: dict[str, Any] = {
        "majority": share(labels.noisy, truth),
        "predictions": share(raw.argmax(axis=1), truth),
    }
    is_spammer = np.isin(np.arange(len(given.names)), spammers)
    if python:
        consensus, quality = crowdlab(python, given, raw)
        found["crowdlab"] = share(consensus, truth)
        if len(spammers):
            rated = ~np.isnan(quality)
            found["crowdlab_auroc"] = round(float(roc_auc_score(is_spammer[rated], -quality[rated])), 4)
    labelled = np.bincount(given.annotator, minlength=len(given.names)) > 0
    right = np.bincount(given.annotator, given.label == truth[given.image], minlength=len(given.names))
    accuracy = right / np.maximum(np.bincount(given.annotator, minlength=len(given.names)), 1)
    honest = labelled & ~is_spammer
    for size in SIZES:
        rows: list[tuple[float, ...]] = []
        for draw in range(DRAWS if size else 1):
            trusted = nothing.copy()
            drawn = np.random.default_rng(draw).permutation(N)[:size]
            trusted[drawn] = truth[drawn]
            with one_thread_each():
                weighed = weigh(raw, trusted, fold_of, labels)
            rest = np.setdiff1d(np.arange(N), drawn)
            likely = weighed.posterior.copy()
            answer = likely[rest].argmax(axis=1)
            likely[drawn] = np.eye(K)[truth[drawn]]
            rated_now = fit_annotators(given, likely)
            covered = (rated_now.low <= accuracy) & (accuracy <= rated_now.high)
            spam = rated_now.spam
            rows.append(
                (
                    float((answer == truth[rest]).mean()),
                    float(likely[rest].max(axis=1).mean()),
                    weighed.strength,
                    float(covered[honest].mean()),
                    float(np.abs(rated_now.accuracy - accuracy)[honest].mean()),
                    float(roc_auc_score(is_spammer, spam)) if len(spammers) else np.nan,
                    float((spam[spammers] >= 0.5).mean()) if len(spammers) else np.nan,
                    float((spam[honest] >= 0.5).mean()),
                )
            )
        names = ("right", "claimed", "strength", "covered", "error", "auroc", "spam_found", "false_spam")
        means = np.mean(rows, axis=0).round(4).tolist()
        found[f"trusted_{size}"] = {
            name: mean for name, mean in zip(names, means, strict=True) if not np.isnan(mean)
        }
    return found


def share(labels: Labels, truth: Labels) -> float:
    """Of right labels."""
    return round(float((labels == truth).mean()), 4)


def main() -> None:
    """Measure the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--cleanlab", metavar="PYTHON")
    parser.add_argument("--only", nargs="*", default=[*CASES], choices=[*CASES])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = zip_some(chosen.data, image_names(chosen.data)[:N], Path(folder) / "images.zip")
        views = embed_images(read_dataset(images), mirrored=True, cache=chosen.cache).views
    truth = np.array([int(row[0]) for row in read_table(chosen.data / "clean_labels.csv").rows[:N]])
    people = human_labels(chosen.human)
    confusion = np.zeros((K, K))
    np.add.at(confusion, (truth[:, None], people), 1)
    confusion /= confusion.sum(axis=1, keepdims=True)
    for case in chosen.only:
        image, annotator = np.divmod(np.arange(3 * N), 3)
        given = Annotations(image, annotator, people.ravel(), ("1", "2", "3"))
        spammers = np.array([], dtype=np.int64)
        if case != "people":
            given, spammers = simulate(truth, confusion, case)
        keep("annotators", case, measure(views, truth, given, spammers, chosen.cleanlab))


if __name__ == "__main__":
    main()
