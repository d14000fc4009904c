"""Rare classes: what --balanced and --class-prior gain on a long tail of the course images.

    python benchmarks/rare.py --data FOLDER --cache CACHE [--seeds 0 1 2 3 4]

FOLDER is that of course.py; features that CACHE does not hold are computed into it. The images to train on
are drawn from the trusted ones outside the notebook's holdout: all of one class, fewer and fewer of the
others, 1 : 76 for the rarest, in an order that is drawn. 40 % of their labels are wrong (symmetric); 1,000 of
them are trusted, and all of these are trained on, by the steps of ``assay run --holdout 0``. New images are
the holdout's 2,000, of classes that are about equally frequent, and a long tail of these in the opposite
order. Results go to benchmarks/results/rare.json.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep, trusted_views

from assay.data.simulate import spoil, symmetric
from assay.data.split import draw_holdout, folds
from assay.embed.images import Features
from assay.evaluate import balanced_accuracy, wilson
from assay.evaluate.metrics import confusion_matrix
from assay.pipeline.learn import TrainingLabels, learn
from assay.predict.prior import estimate_prior, reweighted
from assay.types import UNKNOWN, Labels, Matrix, Probs, Rows

RATIO, WRONG, TRUSTED, K = 76, 0.4, 1_000, 10
CLASSES = tuple(map(str, range(K)))


def main() -> None:
    """Measure each seed and keep it; then the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    truth, views = trusted_views(arguments.data, arguments.cache)
    found = []
    for seed in arguments.seeds:
        found.append(measure(views, truth, seed))
        keep("rare", f"seed {seed}", found[-1])
    names = [name for name, value in found[0].items() if isinstance(value, float)]
    keep("rare", "mean", {name: round(float(np.mean([one[name] for one in found])), 2) for name in names})


def measure(views: tuple[Matrix, ...], truth: Labels, seed: int) -> dict[str, Any]:
    """Figures of one draw, in per cent."""
    rng = np.random.default_rng(seed)
    held = draw_holdout(truth, np.ones(len(truth), dtype=bool), how="notebook").holdout
    order = rng.permutation(K)
    train = long_tail(truth, np.setdiff1d(np.arange(len(truth)), held), order, rng)
    noisy = spoil(truth[train], symmetric(K, WRONG), seed)
    trusted = np.full(len(train), UNKNOWN)
    checked = rng.permutation(len(train))[:TRUSTED]
    trusted[checked] = truth[train][checked]
    features = Features(tuple(view[train] for view in views), (None,) * len(train), {}, {}, computed=0)
    usable, fold_of = np.ones(len(train), dtype=bool), folds(trusted, 5, seed)
    fitted = learn(TrainingLabels(features, noisy, trusted, usable, fold_of, CLASSES, seed, 0.8))
    rows, corrected = np.flatnonzero(trusted == UNKNOWN), fitted.corrected.corrected
    found: dict[str, Any] = {
        "images": len(train),
        "rarest": int(np.bincount(truth[train]).min()),
        "corrected labels right": 100 * float((corrected[rows] == truth[train][rows]).mean()),
    }
    # That is what --balanced does to the head, and nothing else: see tests/pipeline/test_balanced.py.
    balanced = fitted.head.calibrated(1.0, -np.log(fitted.prior))
    uniform = np.full(K, 1 / K)
    for mix, new in (("even", held), ("opposite", long_tail(truth, held, order[::-1], rng))):
        plain, even = (head.probabilities(views[0][new]) for head in (fitted.head, balanced))
        estimate, again = estimate_prior(plain, fitted.prior), estimate_prior(even, uniform)
        real = np.bincount(truth[new], minlength=K) / len(new)
        for name, probs in (
            ("plain", plain),
            ("balanced", even),
            ("plain, uniform", reweighted(plain, fitted.prior, uniform)),
            ("plain, estimate", reweighted(plain, fitted.prior, estimate)),
            ("balanced, estimate", reweighted(even, uniform, again)),
            ("plain, true prior", reweighted(plain, fitted.prior, real)),
        ):
            found |= figures(f"{mix}: {name}", truth[new], probs)
        found[f"{mix}: estimate, total variation"] = 50 * float(np.abs(estimate - real).sum())
    return found


def figures(name: str, truth: Labels, probs: Probs) -> dict[str, Any]:
    """Balanced accuracy and accuracy, and the interval of the first."""
    confusion = confusion_matrix(truth, probs.argmax(axis=1), K)
    balanced, plain = balanced_accuracy(confusion), wilson(int(np.trace(confusion)), len(truth))
    return {
        f"{name}, balanced accuracy": 100 * balanced.estimate,
        f"{name}, interval": [100 * balanced.low, 100 * balanced.high],
        f"{name}, accuracy": 100 * plain.estimate,
    }


def long_tail(truth: Labels, rows: Rows, order: Rows, rng: np.random.Generator) -> Rows:
    """Some of ``rows``, ascending: all of the first class of ``order``, fewer and fewer of the others."""
    most, chosen = int(np.bincount(truth[rows]).min()), []
    for rank, label in enumerate(order.tolist()):
        n = round(most * RATIO ** (-rank / (len(order) - 1)))
        chosen.append(rng.permutation(rows[truth[rows] == label])[:n])
    return np.sort(np.concatenate(chosen))


if __name__ == "__main__":
    main()
