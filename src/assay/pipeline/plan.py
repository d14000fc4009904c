"""A plan: the value of more trusted labels, and which images to label.

The value is a learning curve over an eighth, a quarter, a half and all of a run's trusted labels. Each third
of the images is left out once. A head is trained on the rest, with so many trusted labels and all other
images noisy, and predicts the third: so every trusted image is tested at each size.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from assay.correct.crossfit import TrainingData, fit_others, mean_pred_probs
from assay.correct.posterior import weigh
from assay.data.decisions import FILE, read_decisions
from assay.data.split import HOLDOUT_MOST, Split, in_proportion
from assay.data.write import write_json
from assay.embed.device import one_thread_each
from assay.errors import LabelError, UsageError
from assay.evaluate import wilson
from assay.evaluate.learning_curve import LearningCurve
from assay.noise import estimate_noise
from assay.noise.intervals import design_effect
from assay.pipeline.finished import OpenedRun, stored_features
from assay.pipeline.holdout import mask_holdout
from assay.pipeline.learn import TrainingLabels
from assay.pipeline.options import MOST_SEED, RunOptions
from assay.pipeline.outputs import choose_to_label, write_images_to_label
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels, Progress, Rows, silent

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
    noise_effect: float = 1.0
    """Design effect of the noise rate of images in groups."""

    def to_json(self, more: Sequence[int]) -> dict[str, Any]:
        """The curves, and what each number of ``more`` trusted labels would add."""
        curves = {"model": self.model, "labels": self.labels}
        numbers, now = (0, *more), self.trusted + self.held_out
        # The share that is held out now, at most what a run holds out by itself, and never fewer than now.
        held_out = [
            max(min((now + number) * self.held_out // now, HOLDOUT_MOST), self.held_out) for number in numbers
        ]
        fit = [now + number - held for number, held in zip(numbers, held_out, strict=True)]
        expected = {name: curve.expect(self.trusted, fit) for name, curve in curves.items()}
        rows = []
        for at, number in enumerate(numbers):
            row: dict[str, Any] = {"more": number, "trusted": fit[at], "held_out": held_out[at]}
            for name, found in expected.items():
                row[name] = {"accuracy": found[at].accuracy.to_json(), "gain": found[at].gain.to_json()}
            row["noise_rate_known_to"] = _half_width(self.noise_rate, fit[at], self.noise_effect)
            if held_out[at]:
                accuracy = expected["model"][at].accuracy.estimate
                row["accuracy_known_to"] = _half_width(accuracy, held_out[at], self.model.effect)
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


@dataclass(frozen=True)
class Plan:
    """Images to label, and what more labels are worth."""

    run: OpenedRun
    value: LabelValue | None
    """None for a run without trusted labels, of which fewer cannot be tried."""
    more: tuple[int, ...]
    random: Rows
    """A fair sample of the images that are not in the file of trusted labels, to be added to it; decided ones
    included, for nobody drew them."""
    doubtful: Rows
    """As many images of the lowest confidence that are not reviewed, for ``assay review``."""

    def to_json(self) -> dict[str, Any]:
        """The content of plan.json."""
        corrections = float(np.sum(1 - self.run.confidence[self.doubtful]))
        value = self.value.to_json(self.more) if self.value else {}
        return value | {
            "doubtful": {"images": len(self.doubtful), "expected_corrections": corrections},
            "random": {"images": len(self.random)},
        }

    def write(self, folder: Path, *, excel_safe: bool = False) -> None:
        """Write plan.csv, one row an image, and plan.json."""
        run = self.run
        write_images_to_label(
            folder,
            run.names,
            [run.label(label) or "" for label in run.proposed.tolist()],
            run.confidence,
            self.random,
            self.doubtful,
            excel_safe=excel_safe,
        )
        write_json(folder / "plan.json", self.to_json())


def check_numbers(more: Sequence[int], label: int) -> None:
    """UsageError for a number of labels below 1."""
    if min(*more, label, 1) < 1:
        raise UsageError(f"expected numbers of labels from 1 on, got {', '.join(map(str, (*more, label)))}")


def plan_labels(
    run: OpenedRun,
    cache: Path,
    *,
    more: Sequence[int],
    label: int,
    workers: int = 2,
    progress: Progress = silent,
) -> Plan:
    """Measure the value of the run's trusted labels, and choose images to label.

    Parameters
    ----------
    cache : that holds the run's features
    more : numbers of additional trusted labels; at most those of all images without one
    label : images to choose, in each part
    """
    trusted = np.flatnonzero(run.trusted != UNKNOWN)
    trusted, held, value = np.setdiff1d(trusted, [*run.decided]), np.flatnonzero(run.held_out), None
    if len(trusted):
        dataset, features = stored_features(run, run.images, cache, workers=workers, progress=progress)
        options = RunOptions(folds=FOLDS, seed=int(run.record["settings"]["seed"]), workers=workers)
        data = mask_holdout(dataset, Split(trusted, held), features, options).data
        value = measure_label_value(data, len(held), progress=progress)
    decisions = run.folder / FILE
    reviewed = {row.name for row in read_decisions(decisions)} if decisions.is_file() else set()
    left = np.flatnonzero(run.is_open & [name not in reviewed for name in run.names])
    without = np.flatnonzero(run.is_unlabelled)
    chosen = choose_to_label(without, left, run.confidence, label)
    possible = dict.fromkeys(min(number, len(without)) for number in more if len(without))
    return Plan(run, value, tuple(possible), *chosen)


def measure_label_value(
    data: TrainingLabels, held_out: int, *, shares: Sequence[float] = SHARES, progress: Progress = silent
) -> LabelValue:
    """Train with several shares of the trusted labels.

    Parameters
    ----------
    data : with ``FOLDS`` folds, near-duplicates in one of them
    held_out : trusted images that are held out
    shares : of the trusted images outside the fold that is tested, ascending
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

    def effect_at(values: np.ndarray) -> float:
        return design_effect(values.astype(float), None if data.groups is None else data.groups[rows])

    right = np.array([count_right(data, rows, *found) for found in zip(probs, sizes, strict=True)])
    counts = np.array(sizes)
    return LabelValue(
        trusted=len(rows),
        held_out=held_out,
        noise_rate=estimate_noise(data.noisy, data.trusted, len(data.classes), seed=data.seed).rate.estimate,
        model=LearningCurve(counts, right[:, 0], effect_at(right[-1, 0])),
        labels=LearningCurve(counts, right[:, 1], effect_at(right[-1, 1])),
        noise_effect=effect_at(data.noisy[rows] != data.trusted[rows]),
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
    trusted = draw_trusted(data, fold, size)
    known = TrainingData(data.features.views, data.labels, trusted, len(data.classes))
    head = fit_others(known, data.fold_of, fold, make_head, seed=(data.seed + fold) % MOST_SEED)
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
    """Whether the model, and the corrected label, is right for each trusted image."""
    truth, model, raw = data.trusted[rows], *probs
    likely = np.zeros_like(raw)
    for fold in range(FOLDS):
        # Weighed by the labels of the other folds that trained its head: no label affects its own posterior,
        # and fewer labels weigh less well.
        tested, known = data.fold_of[rows] == fold, draw_trusted(data, fold, size)[rows]
        among = tested | (known != UNKNOWN)
        weighed = weigh(raw[among], known[among], data.fold_of[rows[among]], data.labels.at(rows[among]))
        likely[tested] = weighed.posterior[tested[among]]
    return np.array([found.argmax(axis=1) == truth for found in (model, likely)])


def _half_width(share: float, n: int, effect: float) -> float:
    """Half the width of the interval of a share of ``n`` images."""
    found = wilson(round(share * n), n, design_effect=effect)
    return (found.high - found.low) / 2
