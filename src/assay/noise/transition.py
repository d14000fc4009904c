"""From pairs of labels to P(given | true)."""

from collections.abc import Sequence

import numpy as np

from assay.data.simulate import symmetric
from assay.errors import LabelError
from assay.noise.intervals import share_bounds, share_interval
from assay.noise.noise import Noise
from assay.noise.notes import notes_on
from assay.noise.shrink import Shrinkage, shrunk_prior, shrunk_transition
from assay.noise.structure import Symmetry, symmetry_test
from assay.types import UNKNOWN, Counts, Labels, Transition, same_length, unmasked


def estimate_noise(
    noisy: Labels,
    trusted: Labels,
    n_classes: int,
    *,
    classes: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
) -> Noise:
    """How wrong are the given labels? Learned from the images that carry both labels.

    If the symmetry test does not reject, the one-parameter matrix is used; else the full one, its rows
    drawn towards the symmetric matrix as far as the classes are alike.

    Parameters
    ----------
    noisy, trusted : class index of each image, UNKNOWN or masked where there is none; the holdout's trusted
        labels left out
    n_classes : K, at least 2
    classes : K names for the words of the result; numbers if empty
    level : of all intervals, in (0, 1)
    seed : for the tables that the symmetry test draws where counts are thin

    Raises
    ------
    LabelError : no image carries both labels; a label out of range; fewer than two classes
    ValueError : arrays or names of different length; a level out of range
    """
    if n_classes < 2:
        raise LabelError(
            f"expected at least 2 classes, got {n_classes}: with one class no label can be wrong"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    names = tuple(classes) or tuple(f"class {i}" for i in range(n_classes))
    if len(names) != n_classes:
        raise ValueError(f"expected {n_classes} class names, got {len(names)}")
    counts = count_pairs(noisy, trusted, n_classes)
    if not counts.any():
        raise LabelError(
            f"expected images with both a given and a trusted label, got none among {len(noisy)}: "
            "check 200 to 500 images picked at random and give their labels as trusted"
        )
    return _noise(counts, names, level, seed)


def count_pairs(noisy: Labels, trusted: Labels, n_classes: int) -> Counts:
    """Number of images at [true, given], shape (K, K); those with an UNKNOWN label are left out.

    Raises
    ------
    LabelError : a label that is neither UNKNOWN nor below ``n_classes``
    """
    noisy, trusted = unmasked(noisy), unmasked(trusted)
    same_length(noisy=noisy, trusted=trusted)
    for name, labels in (("noisy", noisy), ("trusted", trusted)):
        _check_labels(name, labels, n_classes)
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    cells = trusted[both].astype(np.int64) * n_classes + noisy[both]
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def _check_labels(name: str, labels: Labels, n_classes: int) -> None:
    strange = np.flatnonzero((labels < UNKNOWN) | (labels >= n_classes))
    if strange.size:
        raise LabelError(
            f"{name}[{strange[0]}]: expected a class from 0 to {n_classes - 1}, or {UNKNOWN} for unknown, "
            f"got {labels[strange[0]]} ({strange.size} such labels): give n_classes for all labels"
        )


def transition_of(counts: Counts, seed: int = 0) -> Transition:
    """P(given | true) from the numbers of images at [true, given], without all else that ``Noise`` says."""
    return _fitted(counts, seed)[0]


def _fitted(counts: Counts, seed: int) -> tuple[Transition, Symmetry, Shrinkage]:
    n_pairs, n_wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    # Not the plain share: no wrong label among the pairs does not make one impossible.
    mean_rate = (n_wrong + 0.5) / (n_pairs + 1)
    full, shrinkage = shrunk_transition(counts, mean_rate)
    symmetry = symmetry_test(counts, seed=seed)
    return full if symmetry.rejected else symmetric(len(counts), mean_rate), symmetry, shrinkage


def _noise(counts: Counts, classes: tuple[str, ...], level: float, seed: int) -> Noise:
    n_pairs, n_wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    rate = share_interval(n_wrong, n_pairs, level)
    transition, symmetry, shrinkage = _fitted(counts, seed)
    low, high = _cell_bounds(counts, transition, level)
    return Noise(
        classes=classes,
        counts=counts,
        rate=rate,
        transition=transition,
        low=low,
        high=high,
        prior=shrunk_prior(counts.sum(axis=1)),
        form="full" if symmetry.rejected else "symmetric",
        structure=symmetry,
        shrinkage=shrinkage,
        notes=notes_on(counts, rate, classes),
    )


def _cell_bounds(counts: Counts, transition: Transition, level: float) -> tuple[Transition, Transition]:
    # From the counts of the class alone: an interval around a shrunk or shared rate is too narrow for the one
    # class that is unlike the others, and a test that finds no difference in few pairs does not say there is
    # none.
    low, high = share_bounds(counts, counts.sum(axis=1, keepdims=True), level)
    return np.minimum(low, transition), np.maximum(high, transition)
