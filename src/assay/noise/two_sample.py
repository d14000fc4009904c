"""Can two sets of features be told apart?"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve
from scipy.special import ndtr
from scipy.stats import rankdata

from assay.noise.intervals import Interval, normal_quantile
from assay.types import Matrix

OtherMatrix = Float[np.ndarray, "M D"]
"""Rows of another set: as wide, not as many."""

Values = np.ndarray
"""A number for each row of a set, or for each feature."""


def told_apart(
    first: Matrix, second: OtherMatrix, *, level: float = 0.95, seed: int = 0
) -> tuple[Interval, float]:
    """How well a classifier, learned on half of the rows, tells the sets apart in the other half.

    The classifier is Fisher's linear discriminant with a ridge, on the standardised features and the
    distance from the centre. The halves are not swapped for a second look: a linear classifier gives
    both looks nearly the same luck, and the p-value would claim more than it knows.

    Parameters
    ----------
    first, second : finite rows, at least 4 in each

    Returns
    -------
    AUC, P(a row of ``first`` looks more like ``first`` than a row of ``second`` does): 0.5 if they are
    alike; and the one-sided p-value of 0.5.

    Source : Lopez-Paz & Oquab (2017), arXiv:1610.06545; interval: Hanley & McNeil (1982),
        doi:10.1148/radiology.143.1.7063747
    """
    rng = np.random.default_rng(seed)
    # Scales and covariance come from all rows without regard to their set: what the test asks stays unseen.
    rows = _standardised(np.concatenate([first, second]))
    sides = [rng.permutation(side) for side in (rows[: len(first)], rows[len(first) :])]
    (learn_first, test_first), (learn_second, test_second) = ((side[::2], side[1::2]) for side in sides)
    direction = _discriminant(rows, learn_first.mean(axis=0) - learn_second.mean(axis=0))
    return _auc(test_first @ direction, test_second @ direction, level)


def _standardised(rows: Values) -> Values:
    """Columns of mean 0 and variance 1, constant ones left out; the last is the distance from the centre."""
    # Rounded means would leave a constant column a spread of its own.
    rows = rows[:, np.ptp(rows, axis=0) > 0].astype(np.float64)
    rows -= rows.mean(axis=0)
    rows /= rows.std(axis=0)
    distance = (rows**2).sum(axis=1)
    return np.column_stack([rows, (distance - distance.mean()) / (distance.std() or 1.0)])


def _discriminant(rows: Matrix, gap: Values) -> Values:
    """The direction that separates means ``gap`` apart; the fewer the rows, the nearer to ``gap`` itself.

    All directions with a ridge, not the strong ones alone: 64 principal ones were tried, and missed a
    shift of half a standard deviation in one feature of 1,280.
    """
    n_rows, width = rows.shape
    if width > n_rows:  # by Woodbury: the system has one equation a row instead of one a column
        kernel = rows @ rows.T / n_rows
        kernel[np.diag_indices(n_rows)] += width / n_rows
        seen = solve(kernel, rows @ gap, assume_a="pos")
        return np.asarray((gap - rows.T @ seen / n_rows) * (n_rows / width))
    covariance = rows.T @ rows / n_rows
    covariance[np.diag_indices(width)] += width / n_rows
    return np.asarray(solve(covariance, gap, assume_a="pos"))


def _auc(first: Values, second: Values, level: float) -> tuple[Interval, float]:
    n_first, n_second = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    area = (float(ranks[:n_first].sum()) / n_first - (n_first + 1) / 2) / n_second
    # Mann & Whitney: the spread of the area when both sets are alike.
    null_error = np.sqrt((n_first + n_second + 1) / (12 * n_first * n_second))
    p_value = float(ndtr((0.5 - area) / null_error))
    reach = normal_quantile(level) * _spread(area, n_first, n_second)
    return Interval(area, max(area - reach, 0.0), min(area + reach, 1.0), level), p_value


def _spread(area: float, n_first: int, n_second: int) -> float:
    """Standard error of the area (Hanley & McNeil 1982), as if half a row of the smaller set lay on the other
    side: that a few rows were told apart without a mistake does not make it certain.
    """
    least = 0.5 / (min(n_first, n_second) + 1)
    area = min(max(area, least), 1 - least)
    both_first, both_second = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    variance = area * (1 - area) + (n_first - 1) * both_first + (n_second - 1) * both_second
    return float(np.sqrt(max(variance, 0.0) / (n_first * n_second)))
