"""The value of more trusted labels: a learning curve over an eighth, a quarter, a half and all of a run's.

Each third of the images is left out once. A head is trained on the rest, with so many trusted labels and all
other images noisy, and predicts the third: so every trusted image is tested at each size.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from assay.correct.crossfit import Evidence, fit_joint, mean_pred_probs
from assay.correct.posterior import transition_from, weigh
from assay.data.split import HOLDOUT_MOST, in_proportion
from assay.embed.device import one_thread_each
from assay.errors import LabelError
from assay.evaluate import wilson
from assay.evaluate.learning_curve import LearningCurve
from assay.noise import estimate_noise
from assay.pipeline.learn import TrainingLabels
from assay.pipeline.options import MOST_SEED
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels, Progress, Transition, silent

FOLDS = 3

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the trusted images outside the fold that is tested."""

FEWEST = 20
"""Trusted labels that a head is trained on at least; smaller shares are left out."""


@dataclass(frozen=True)
class LabelValue:
    """How accurate model and labels are by the number of trusted labels."""

    trusted: int
    """Trusted images that the run was trained on, without the holdout."""
    held_out: int
    noise_rate: float
    model: LearningCurve
    """Of preset ``fast``'s model without test-time augmentation; a fine-tuned one is better."""
    labels: LearningCurve
    """Of the corrected labels."""

    def to_json(self, more: Sequence[int]) -> dict[str, Any]:
        """The curves, and what each number of ``more`` trusted labels would add."""
        curves = {"model": self.model, "labels": self.labels}
        splits = [self._split(number) for number in (0, *more)]
        expected = {
            name: curve.expect(self.trusted, [fit for fit, _ in splits]) for name, curve in curves.items()
        }
        rows = []
        for at, (number, (fit, held_out)) in enumerate(zip((0, *more), splits, strict=True)):
            row: dict[str, Any] = {"more": number, "trusted": fit, "held_out": held_out}
            for name, found in expected.items():
                row[name] = {"accuracy": found[at].accuracy.to_json(), "gain": found[at].gain.to_json()}
            row["noise_rate_known_to"] = _half_width(self.noise_rate, fit)
            if held_out:
                accuracy = expected["model"][at].accuracy.estimate
                row["accuracy_known_to"] = _half_width(accuracy, held_out)
            rows.append(row)
        return {
            "trusted": self.trusted,
            "held_out": self.held_out,
            "curve": [
                {"trusted": size, **{name: float(curve.accuracy[at]) for name, curve in curves.items()}}
                for at, size in enumerate(self.model.sizes.tolist())
            ],
            "tested": self.model.right.shape[1],
            "expected": rows,
        }

    def _split(self, more: int) -> tuple[int, int]:
        """Trusted labels to fit on and to hold out if there are so many more: the share that is held out now,
        at most ``HOLDOUT_MOST``, and never fewer than now.
        """
        now = self.trusted + self.held_out
        wanted = min((now + more) * self.held_out // now, HOLDOUT_MOST)
        held_out = max(wanted, self.held_out)
        return now + more - held_out, held_out


def measure_label_value(
    data: TrainingLabels, held_out: int, *, shares: Sequence[float] = SHARES, progress: Progress = silent
) -> LabelValue:
    """Train with several shares of the trusted labels.

    Parameters
    ----------
    data : with ``FOLDS`` folds, near-duplicates in one of them
    held_out : trusted images that are held out
    shares : of the trusted images outside the fold that is tested, ascending

    Raises
    ------
    LabelError : too few trusted labels for two sizes
    """
    rows = np.flatnonzero(data.trusted != UNKNOWN)
    sizes = _sizes(data, len(rows), shares)
    jobs = [*product(range(len(sizes)), range(FOLDS))]
    probs = np.zeros((len(sizes), 2, len(rows), len(data.classes)))  # of the image alone, and of all views

    def predict(job: tuple[int, int]) -> None:
        at, fold = job
        tested = data.fold_of[rows] == fold
        probs[at][:, tested] = predict_fold(data, fold, sizes[at], rows[tested])

    progress("learn", 0, len(jobs))
    with one_thread_each(), ThreadPoolExecutor(data.workers) as pool:
        for done, _ in enumerate(pool.map(predict, jobs[::-1]), 1):  # the longest first
            progress("learn", done, len(jobs))
    noise = estimate_noise(data.noisy, data.trusted, len(data.classes), seed=data.seed)
    right = np.array([count_right(data, rows, *found) for found in zip(probs, sizes, strict=True)])
    counts = np.array(sizes)
    return LabelValue(
        trusted=len(rows),
        held_out=held_out,
        noise_rate=noise.rate.estimate,
        model=LearningCurve(counts, right[:, 0]),
        labels=LearningCurve(counts, right[:, 1]),
    )


def _sizes(data: TrainingLabels, n_trusted: int, shares: Sequence[float]) -> list[int]:
    """Numbers of trusted labels to train on, ascending; none that holds one class alone."""
    outside = n_trusted * (FOLDS - 1) // FOLDS
    large = [size for size in (round(share * outside) for share in shares) if size >= FEWEST]
    if len(large) < 2:
        raise LabelError(
            f"expected {2 * FEWEST * FOLDS // (FOLDS - 1)} trusted labels or more besides the holdout's to "
            f"see what more are worth, got {n_trusted}; add trusted labels, or run with a smaller --holdout"
        )
    drawn = {size: [draw_trusted(data, fold, size) for fold in range(FOLDS)] for size in large}
    sizes = [
        size for size, folds in drawn.items() if all(len(np.unique(one[one != UNKNOWN])) > 1 for one in folds)
    ]
    if len(sizes) < 2:
        raise LabelError(
            f"expected two classes or more among {large[-2]:,} trusted labels to see what more are worth, "
            f"got nearly all {n_trusted:,} of one; add trusted labels of the other classes"
        )
    return sizes


def predict_fold(
    data: TrainingLabels, fold: int, size: int, tested: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "2 T K"]:
    """P(class) of a fold's trusted images by a head of the other folds: of the image, and of all views."""
    train, trusted = (data.fold_of != fold) & (data.fold_of != UNKNOWN), draw_trusted(data, fold, size)
    noisy = np.where(train, data.noisy, UNKNOWN)
    evidence = Evidence(data.features.views, noisy, trusted, _transition(data, noisy, trusted))
    head = fit_joint(evidence, train, make_head, seed=(data.seed + fold) % MOST_SEED)
    views = [view[tested] for view in data.features.views]
    return np.array([mean_pred_probs(head, some, len(data.classes)) for some in (views[:1], views)])


def draw_trusted(data: TrainingLabels, fold: int, size: int) -> Labels:
    """``size`` trusted labels of the other folds, each class in proportion; a larger draw holds a smaller."""
    outside = (data.fold_of != fold) & (data.fold_of != UNKNOWN)
    known = np.flatnonzero(outside & (data.trusted != UNKNOWN))
    rows = in_proportion(data.trusted, known, data.seed + fold)[:size]
    drawn = np.full_like(data.trusted, UNKNOWN)
    drawn[rows] = data.trusted[rows]
    return drawn


def count_right(
    data: TrainingLabels, rows: Int[np.ndarray, "T"], probs: Float[np.ndarray, "2 T K"], size: int
) -> Bool[np.ndarray, "2 T"]:
    """Whether the model, and the corrected label, is right for each trusted image.

    A fold's labels are weighed by the ``size`` trusted labels of the other folds that trained its head: no
    label affects its own posterior, and fewer labels weigh less well.
    """
    truth, model, raw = data.trusted[rows], *probs
    likely = np.zeros_like(raw)
    for fold in range(FOLDS):
        tested, known = data.fold_of[rows] == fold, draw_trusted(data, fold, size)[rows]
        among = tested | (known != UNKNOWN)
        noisy, judged = data.noisy[rows[among]], known[among]
        transition = _transition(data, noisy, judged)
        fold_of = data.fold_of[rows[among]]
        weighed = weigh(raw[among], noisy, judged, fold_of, transition, data.seed)
        likely[tested] = weighed.posterior[tested[among]]
    return np.array([found.argmax(axis=1) == truth for found in (model, likely)])


def _transition(data: TrainingLabels, noisy: Labels, trusted: Labels) -> Transition:
    """From these pairs; uniform where there are none."""
    k = len(data.classes)
    return transition_from(noisy, trusted, np.full((k, k), 1 / k), data.seed)


def _half_width(share: float, n: int) -> float:
    """Half the width of the interval of a share of ``n`` images."""
    found = wilson(round(share * n), n)
    return (found.high - found.low) / 2
