"""Pairs of classes that are taken for each other: by those who gave the labels, or by how images look."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom

from assay.noise import count_pairs
from assay.types import UNKNOWN, Labels, Probs

LEVEL = 0.05
"""Chance that one pair or more is called unusual if wrong labels fall on all classes alike."""


@dataclass(frozen=True)
class ClassPair:
    """Two classes, and how often one is taken for the other, both ways together."""

    one: int
    other: int
    share: float
    """Of the images of both classes, those that are taken for the other one of the two."""
    expected: float
    """The same if all that is wrong fell on all other classes alike."""
    is_unusual: bool
    """Whether the share is above what is expected, and not by chance."""


def confused_labels(noisy: Labels, trusted: Labels, n_classes: int) -> tuple[ClassPair, ...]:
    """Pairs by how often the given label is of one and the trusted label of the other, the most first.

    Unusual pairs are told from chance by a binomial test of each, corrected for their number (Bonferroni).
    """
    return _ranked(count_pairs(noisy, trusted, n_classes).astype(float))


def look_alikes(labels: Labels, pred_probs: Probs) -> tuple[ClassPair, ...]:
    """Pairs by how much of the belief in images of one class goes to the other, the most first.

    Parameters
    ----------
    labels : the class of each image, as far as it is known or fixed; UNKNOWN is left out
    pred_probs : P(class) from how the image looks, not from its own label
    """
    shares = np.zeros((pred_probs.shape[1], pred_probs.shape[1]))
    for label in np.unique(labels[labels != UNKNOWN]):
        shares[label] = pred_probs[labels == label].sum(axis=0)
    return _ranked(shares)


def votes(labels: Labels, nearest: Int[np.ndarray, "N k"], n_classes: int) -> Probs:
    """A belief from the labels of each image's neighbours; uniform where none of them has one.

    Parameters
    ----------
    labels : (N,) class index or UNKNOWN
    nearest : (N, k) rows of the neighbours, the image itself not among them
    """
    counts = np.zeros((len(labels), n_classes))
    for neighbours in nearest.T:
        theirs = labels[neighbours]
        known = np.flatnonzero(theirs != UNKNOWN)
        counts[known, theirs[known]] += 1
    total = counts.sum(axis=1)
    counts[total == 0] = 1 / max(n_classes, 1)
    counts /= np.maximum(total, 1)[:, None]  # in place: with a thousand classes there are many
    return counts


def _ranked(counts: Float[np.ndarray, "K K"]) -> tuple[ClassPair, ...]:
    return tuple(sorted(_pairs(counts), key=lambda pair: (-pair.share, pair.one, pair.other)))


def _pairs(counts: Float[np.ndarray, "K K"]) -> Iterator[ClassPair]:
    k = len(counts)
    totals = counts.sum(axis=1)
    wrong = totals - np.diag(counts)
    one, other = np.triu_indices(k, 1)
    level, n = LEVEL / max(len(one), 1), totals[one] + totals[other]
    one, other, n = one[n > 0], other[n > 0], n[n > 0]
    taken = counts[one, other] + counts[other, one]
    expected = (wrong[one] + wrong[other]) / max(k - 1, 1) / n
    p_value = binom.sf(np.floor(taken) - 1, np.round(n), expected)
    unusual = (taken > 0) & (taken / n > expected) & (p_value < level)
    columns = (one, other, taken / n, expected, unusual)
    for values in zip(*(column.tolist() for column in columns), strict=True):
        yield ClassPair(*values)
