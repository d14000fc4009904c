"""What more trusted labels would be worth: the run's own learning, with an eighth of them, a quarter, a half.

A third of the images is left out in turn; from the rest a head learns with so many trusted labels, all
other images being noisy ones, and is asked for the third. So every trusted image is tested at each size.
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
from assay.pipeline.learn import Labelled
from assay.pipeline.options import MOST_SEED
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels, Mask, Progress, Transition, silent

FOLDS = 3

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the trusted images that are left to learn from."""

FEWEST = 20
"""Trusted labels from which a head is learned; a smaller share is left out."""


@dataclass(frozen=True)
class Worth:
    """What the trusted labels of a run gave, by their number."""

    trusted: int
    """Trusted images that were learned from, those of the holdout aside."""
    held_out: int
    noise_rate: float
    model: LearningCurve
    """Of preset ``fast``'s model, which looks at an image alone; a fine-tuned one lies above."""
    labels: LearningCurve
    """Of the corrected labels."""

    def to_json(self, more: Sequence[int]) -> dict[str, Any]:
        """The curves, and what each number of ``more`` would add, as plain dicts and numbers."""
        names = {"model": self.model, "labels": self.labels}
        parts = [self._parted(number) for number in (0, *more)]
        taught = [teach for teach, _ in parts]
        expected = {name: curve.expect(self.trusted, taught) for name, curve in names.items()}
        return {
            "trusted": self.trusted,
            "held_out": self.held_out,
            "curve": [
                {"trusted": size, **{name: float(curve.accuracy[at]) for name, curve in names.items()}}
                for at, size in enumerate(self.model.sizes.tolist())
            ],
            "tested": self.model.right.shape[1],
            "expected": [
                {
                    "more": number,
                    "trusted": parts[at][0],
                    "held_out": parts[at][1],
                    **{
                        name: {"accuracy": rows[at].accuracy.to_json(), "gain": rows[at].gain.to_json()}
                        for name, rows in expected.items()
                    },
                    **self._known_to(*parts[at], expected["model"][at].accuracy.estimate),
                }
                for at, number in enumerate((0, *more))
            ],
        }

    def _parted(self, more: int) -> tuple[int, int]:
        """How many trusted labels teach and how many are held out if there are so many more: of all of them
        the share that is held out now, at most ``HOLDOUT_MOST``, and never fewer than now.
        """
        now = self.trusted + self.held_out
        sealed = min((now + more) * self.held_out // now, HOLDOUT_MOST)
        sealed = max(sealed, self.held_out)
        return now + more - sealed, sealed

    def _known_to(self, trusted: int, held_out: int, accuracy: float) -> dict[str, float]:
        """Half the width of the intervals that so many labels leave."""
        found = {"noise_rate_known_to": _half_width(self.noise_rate, trusted)}
        return found | ({"accuracy_known_to": _half_width(accuracy, held_out)} if held_out else {})


def measure_worth(
    data: Labelled, held_out: int, *, shares: Sequence[float] = SHARES, progress: Progress = silent
) -> Worth:
    """Learn with several shares of the trusted labels.

    Parameters
    ----------
    data : with ``FOLDS`` folds, copies of a picture in one of them
    held_out : trusted images that are sealed
    shares : of the trusted images outside the third that is tested, ascending

    Raises
    ------
    LabelError : too few trusted labels for two sizes
    """
    rows = np.flatnonzero(data.trusted != UNKNOWN)
    sizes = _sizes(data, len(rows), shares)
    jobs = [*product(range(len(sizes)), range(FOLDS))]
    all_pred_probs = np.zeros((len(sizes), 2, len(rows), len(data.classes)))

    def do(job: tuple[int, int]) -> None:
        at, fold = job
        tested = data.fold_of[rows] == fold
        all_pred_probs[at][:, tested] = _believe(data, fold, sizes[at], rows[tested])

    progress("learn", 0, len(jobs))
    with one_thread_each(), ThreadPoolExecutor(data.workers) as pool:
        for done, _ in enumerate(pool.map(do, jobs[::-1]), 1):
            progress("learn", done, len(jobs))
    noise = estimate_noise(data.noisy, data.trusted, len(data.classes), seed=data.seed)
    right = np.array([_right(data, rows, *found) for found in zip(all_pred_probs, sizes, strict=True)])
    counts = np.array(sizes)
    return Worth(
        trusted=len(rows),
        held_out=held_out,
        noise_rate=noise.rate.estimate,
        model=LearningCurve(counts, right[:, 0]),
        labels=LearningCurve(counts, right[:, 1]),
    )


def _sizes(data: Labelled, n_trusted: int, shares: Sequence[float]) -> list[int]:
    """Trusted labels to learn from, ascending; no size that holds one class alone."""
    learned_from = n_trusted * (FOLDS - 1) // FOLDS
    large = [size for size in (round(share * learned_from) for share in shares) if size >= FEWEST]
    if len(large) < 2:
        raise LabelError(
            f"expected {2 * FEWEST * FOLDS // (FOLDS - 1)} trusted labels or more besides the holdout's to "
            f"see what more are worth, got {n_trusted}; add trusted labels, or run with a smaller --holdout"
        )
    sizes = [size for size in large if all(_two_classes(data, fold, size) for fold in range(FOLDS))]
    if len(sizes) < 2:
        raise LabelError(
            f"expected two classes or more among {large[-2]:,} trusted labels to see what more are worth, "
            f"got nearly all {n_trusted:,} of one; add trusted labels of the other classes"
        )
    return sizes


def _two_classes(data: Labelled, left_out: int, size: int) -> bool:
    drawn = _drawn(data, left_out, size)
    return len(np.unique(drawn[drawn != UNKNOWN])) > 1


def _believe(
    data: Labelled, left_out: int, size: int, tested: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "2 T K"]:
    """P(class) of a fold's trusted images: as they are, and the mean over the views."""
    learn, trusted = _outside(data, left_out), _drawn(data, left_out, size)
    noisy = np.where(learn, data.noisy, UNKNOWN)
    transition = _transition(data, noisy, trusted)
    evidence = Evidence(data.features.views, noisy, trusted, transition)
    head = fit_joint(evidence, learn, make_head, seed=(data.seed + left_out) % MOST_SEED)
    views = [view[tested] for view in data.features.views]
    found = [mean_pred_probs(head, some, len(data.classes)) for some in (views[:1], views)]
    return np.array(found)


def _outside(data: Labelled, left_out: int) -> Mask:
    """Images of the other folds."""
    outside: Mask = (data.fold_of != left_out) & (data.fold_of != UNKNOWN)
    return outside


def _drawn(data: Labelled, left_out: int, size: int) -> Labels:
    """``size`` trusted labels of the other folds, of each class in proportion; more hold those of fewer."""
    known = np.flatnonzero(_outside(data, left_out) & (data.trusted != UNKNOWN))
    rows = in_proportion(data.trusted, known, data.seed + left_out)[:size]
    drawn = np.full_like(data.trusted, UNKNOWN)
    drawn[rows] = data.trusted[rows]
    return drawn


def _transition(data: Labelled, noisy: Labels, trusted: Labels) -> Transition:
    """From these pairs; one that says nothing where there are none."""
    k = len(data.classes)
    return transition_from(noisy, trusted, np.full((k, k), 1 / k), data.seed)


def _right(
    data: Labelled, rows: Int[np.ndarray, "T"], said: Float[np.ndarray, "2 T K"], size: int
) -> Bool[np.ndarray, "2 T"]:
    """Whether the model, and the corrected label, is right of each trusted image.

    What corrects a third's labels is weighed by the ``size`` labels of the other thirds that its head learned
    from: no label tells itself, and fewer labels weigh less well.
    """
    truth, model, raw = data.trusted[rows], *said
    likely = np.zeros_like(raw)
    for fold in range(FOLDS):
        tested, known = data.fold_of[rows] == fold, _drawn(data, fold, size)[rows]
        among = tested | (known != UNKNOWN)
        likely[tested] = _corrected(data, rows[among], raw[among], known[among])[tested[among]]
    return np.array([probs.argmax(axis=1) == truth for probs in (model, likely)])


def _corrected(
    data: Labelled, rows: Int[np.ndarray, "T"], raw: Float[np.ndarray, "T K"], known: Labels
) -> Float[np.ndarray, "T K"]:
    """The posterior of some rows, by those whose label is known."""
    noisy = data.noisy[rows]
    return weigh(raw, noisy, known, data.fold_of[rows], _transition(data, noisy, known), data.seed).posterior


def _half_width(share: float, n: int) -> float:
    found = wilson(round(share * n), n)
    return (found.high - found.low) / 2
