"""From pairs of labels to the transition matrix P(noisy | true); classes with few pairs borrow from others.

A row of the matrix has two parts, as the symmetry test has: how often the label is wrong, and where the wrong
ones go. Each part is drawn towards what all classes share, with its own strength. One strength for both was
tried: where rates differ but wrong labels spread evenly, it about doubled the error.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from assay.data.simulate import symmetric
from assay.errors import LabelError
from assay.noise.intervals import share_bounds
from assay.noise.structure import Symmetry, off_diagonal, symmetry_test
from assay.types import UNKNOWN, Counts, Labels, Prior, Transition, same_length, unmasked

WEAKEST, STRONGEST = 1.0, 1e6
"""Bounds of a strength: a cell never seen keeps some probability, and a search has an end."""


@dataclass(frozen=True)
class Shrinkage:
    """How many pairs of a class it takes to outweigh the other classes."""

    rate: float
    """For the noise rate of a class."""
    spread: float
    """For the spread of the wrong labels of a class over the others."""


def count_pairs(noisy: Labels, trusted: Labels, n_classes: int) -> Counts:
    """Number of images at [true, noisy], shape (K, K); those with an UNKNOWN label are left out.

    Raises
    ------
    LabelError : a label that is neither UNKNOWN nor below ``n_classes``
    """
    noisy, trusted = unmasked(noisy), unmasked(trusted)
    same_length(noisy=noisy, trusted=trusted)
    for name, labels in (("noisy", noisy), ("trusted", trusted)):
        strange = np.flatnonzero((labels < UNKNOWN) | (labels >= n_classes))
        if strange.size:
            raise LabelError(
                f"{name}[{strange[0]}]: expected a class from 0 to {n_classes - 1}, or {UNKNOWN} for "
                f"unknown, got {labels[strange[0]]} ({strange.size} such labels); give n_classes for all"
            )
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    cells = trusted[both].astype(np.int64) * n_classes + noisy[both]
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def fit_transition(counts: Counts, seed: int = 0) -> tuple[Transition, Symmetry, Shrinkage]:
    """P(noisy | true): the one-parameter matrix unless the symmetry test rejects it, else the shrunk one."""
    n_pairs, n_wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    # Not the plain share: no wrong label among the pairs does not make one impossible.
    mean_rate = (n_wrong + 0.5) / (n_pairs + 1)
    full, shrinkage = shrunk_transition(counts, mean_rate)
    symmetry = symmetry_test(counts, seed=seed)
    return full if symmetry.rejected else symmetric(len(counts), mean_rate), symmetry, shrinkage


def cell_bounds(counts: Counts, transition: Transition, level: float) -> tuple[Transition, Transition]:
    """Lower and upper end of the interval of each cell of ``transition``."""
    # From the counts of the class alone: an interval around a shrunk or shared rate is too narrow for the one
    # class that is unlike the others, and few pairs without a difference do not show that there is none.
    low, high = share_bounds(counts, counts.sum(axis=1, keepdims=True), level)
    return np.minimum(low, transition), np.maximum(high, transition)


def shrunk_transition(counts: Counts, rate: float) -> tuple[Transition, Shrinkage]:
    """Posterior mean of the transition, rows drawn towards the symmetric matrix of ``rate``.

    All cells are > 0, rows sum to 1; a class without pairs gets the symmetric row.

    Source : empirical Bayes with pseudo-counts as in Fienberg & Holland (1973),
        doi:10.1080/01621459.1973.10481405; two parts as in Connor & Mosimann (1969),
        doi:10.1080/01621459.1969.10500963
    """
    off = off_diagonal(counts)
    wrong, right = off.sum(axis=1), np.diag(counts)
    rates, rate_strength = _shrunk(np.column_stack([right, wrong]), np.array([1 - rate, rate]))
    width = off.shape[1]
    spread, spread_strength = _shrunk(off, np.full(width, 1 / width))
    matrix = np.empty(counts.shape)
    np.fill_diagonal(matrix, rates[:, 0])
    matrix[~np.eye(len(counts), dtype=bool)] = (rates[:, 1:] * spread).ravel()
    return matrix, Shrinkage(rate_strength, spread_strength)


def shrunk_prior(class_counts: np.ndarray) -> Prior:
    """P(true) of each class from its number of trusted images, drawn towards equal shares; all > 0."""
    size = len(class_counts)
    shares, _ = _shrunk(class_counts[None, :], np.full(size, 1 / size))
    return np.asarray(shares[0])


def _shrunk(counts: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, float]:
    strength = dirichlet_strength(counts, centre)
    return (counts + strength * centre) / (counts.sum(axis=1, keepdims=True) + strength), strength


def dirichlet_strength(counts: np.ndarray, centre: np.ndarray) -> float:
    """The s in [1, 1e6] for which rows drawn from Dirichlet(s · centre) best explain ``counts`` (R, J).

    Source : the Dirichlet-multinomial likelihood, Minka (2000), Estimating a Dirichlet distribution
    """
    totals = counts.sum(axis=1)
    row, column = np.nonzero(counts)
    seen, weight = counts[row, column], centre[column]

    def loss(log_strength: float) -> float:
        strength = np.exp(log_strength)
        rows = gammaln(strength) - gammaln(strength + totals)
        cells = gammaln(strength * weight + seen) - gammaln(strength * weight)
        return -float(rows.sum() + cells.sum())

    found = minimize_scalar(loss, bounds=(np.log(WEAKEST), np.log(STRONGEST)), method="bounded")
    return float(np.exp(found.x))
