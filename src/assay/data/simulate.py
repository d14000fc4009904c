"""Noisy labels drawn with a known transition matrix, to check that an estimate finds it again.

A rate here is the share of labels that are wrong. Papers often redraw a share r of the labels from all K
classes; a redraw hits the true class once in K times, so their r is a rate of ``r * (K - 1) / K``.
"""

import numpy as np
from jaxtyping import Float

from assay.errors import UsageError
from assay.types import UNKNOWN, Labels, Transition


def symmetric(n_classes: int, rate: float) -> Transition:
    """Every wrong class is equally likely: ``1 - rate`` on the diagonal, the rest spread evenly.

    Raises
    ------
    UsageError : fewer than two classes, or a rate outside [0, 1]
    """
    _check(n_classes, rate)
    transition = np.full((n_classes, n_classes), rate / (n_classes - 1))
    np.fill_diagonal(transition, 1.0 - rate)
    return transition


def pair_flip(n_classes: int, rate: float) -> Transition:
    """Class k is mistaken only for class k + 1, the last for the first; raises as ``symmetric``."""
    _check(n_classes, rate)
    identity = np.eye(n_classes)
    transition: Transition = (1.0 - rate) * identity + rate * np.roll(identity, 1, axis=1)
    return transition


def class_dependent(matrix: Float[np.ndarray, "..."]) -> Transition:
    """A matrix of one's own, P(noisy | true) at [true, noisy], checked, its rows scaled to sum to 1.

    Raises
    ------
    UsageError : not square, a number outside [0, 1] or not finite, a row that does not sum to 1
    """
    transition = np.array(matrix, dtype=np.float64)
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1] or len(transition) < 2:
        raise UsageError(f"expected a square transition of two classes or more, got shape {transition.shape}")
    bad = ~((transition >= 0.0) & (transition <= 1.0))  # written so that NaN is bad
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        value = float(transition[row, column])
        raise UsageError(f"expected probabilities in [0, 1], got {value} at [{row}, {column}]")
    sums = transition.sum(axis=1)
    row = int(np.abs(sums - 1.0).argmax())
    if abs(sums[row] - 1.0) > 1e-6:
        raise UsageError(
            f"expected rows that sum to 1, got {float(sums[row]):.6g} in row {row}; "
            "rows are the true classes, columns the noisy ones"
        )
    transition /= sums[:, None]
    return transition


def spoil(labels: Labels, transition: Transition, seed: int) -> Labels:
    """Noisy labels, drawn for each true label from its row of ``transition``; UNKNOWN stays UNKNOWN.

    The draw of an image depends on its place and the seed, not on the labels of the others.

    Raises
    ------
    UsageError : a label that is neither UNKNOWN nor below K
    """
    n_classes = len(transition)
    wrong = labels[(labels < UNKNOWN) | (labels >= n_classes)]
    if wrong.size:
        raise UsageError(f"expected labels from -1 to {n_classes - 1}, got {int(wrong[0])}")
    draws = np.random.default_rng(seed).random(len(labels))
    noisy = np.full(len(labels), UNKNOWN, dtype=np.int64)
    for true in range(n_classes):
        rows = labels == true
        possible = np.flatnonzero(transition[true])
        # Without the last bound: the sum may fall short of 1 by a rounding, and a draw lie above it.
        bounds = transition[true, possible].cumsum()[:-1]
        noisy[rows] = possible[np.searchsorted(bounds, draws[rows], side="right")]
    return noisy


def _check(n_classes: int, rate: float) -> None:
    if n_classes < 2:
        raise UsageError(f"expected two classes or more, got {n_classes}")
    if not 0.0 <= rate <= 1.0:
        raise UsageError(f"expected a rate in [0, 1], the share of wrong labels, got {rate}")
