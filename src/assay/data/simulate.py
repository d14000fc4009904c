"""Noisy labels drawn with a known transition matrix, to check that an estimate finds it again."""

import numpy as np

from assay.errors import UsageError
from assay.types import UNKNOWN, Labels, Transition


def symmetric(n_classes: int, rate: float) -> Transition:
    """Every wrong class is equally likely: ``1 - rate`` on the diagonal, the rest spread evenly.

    A rate is the share of labels that are wrong. Papers often redraw a share r of the labels from all K
    classes; a redraw hits the true class once in K times, so their r is a rate of ``r * (K - 1) / K``.

    Raises
    ------
    UsageError : fewer than two classes, or a rate outside [0, 1]
    """
    if n_classes < 2:
        raise UsageError(f"expected two classes or more, got {n_classes}")
    if not 0.0 <= rate <= 1.0:
        raise UsageError(f"expected a rate in [0, 1], the share of wrong labels, got {rate}")
    transition = np.full((n_classes, n_classes), rate / (n_classes - 1))
    np.fill_diagonal(transition, 1.0 - rate)
    return transition


def spoil(labels: Labels, transition: Transition, seed: int) -> Labels:
    """Noisy labels, drawn for each true label from its row of ``transition``; UNKNOWN stays UNKNOWN.

    Raises
    ------
    UsageError : a label that is neither UNKNOWN nor below K
    """
    n_classes = len(transition)
    wrong = labels[(labels < UNKNOWN) | (labels >= n_classes)]
    if wrong.size:
        raise UsageError(f"expected labels from -1 to {n_classes - 1}, got {int(wrong[0])}")
    # One draw an image, also where none is needed: it depends on the place, not on the labels of others.
    draws = np.random.default_rng(seed).random(len(labels))
    noisy = np.full(len(labels), UNKNOWN, dtype=np.int64)
    for true in range(n_classes):
        rows = labels == true
        possible = np.flatnonzero(transition[true])
        # Without the last bound: the sum may fall short of 1 by a rounding, and a draw lie above it.
        bounds = transition[true, possible].cumsum()[:-1]
        noisy[rows] = possible[np.searchsorted(bounds, draws[rows], side="right")]
    return noisy
