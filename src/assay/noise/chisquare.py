"""Two chi-square tests that stay right when counts are thin.

Both condition on what the null says nothing about, so each has a null law without unknowns. Where
the expected counts are large that law is the chi-square; elsewhere tables are drawn from it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import chdtrc

Table = np.ndarray
"""Counts, one row or one number for each group."""

ENOUGH = 5
"""The chi-square law is used if every cell expects at least this many (Cochran 1954, doi:10.2307/3001616)."""

WORK = 200_000_000
"""Numbers to draw at most: a few seconds. The largest tables get fewer draws, never under 99."""


@dataclass(frozen=True)
class ChiSquare:
    """One test: how surprising the counts are if the null holds."""

    statistic: float
    """Pearson's sum of (counted - expected)² / expected."""
    degrees: int
    """Degrees of freedom."""
    p_value: float
    kind: str
    """Where the p-value is from: ``asymptotic`` (the chi-square law) or ``monte-carlo`` (drawn tables)."""

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)


def same_share(hits: Table, of: Table, *, seed: int = 0) -> ChiSquare:
    """Do all groups have one share? ``hits[i]`` of ``of[i]`` in group i.

    Thin tables are drawn given the total of hits, which makes the test exact: a hypergeometric law.

    Source : Besag & Clifford (1989), doi:10.1093/biomet/76.4.633, for the p-value of drawn tables
    """
    hits, of = hits[of > 0], of[of > 0]
    total, pooled = int(hits.sum()), hits.sum() / max(of.sum(), 1)
    degrees = max(len(of) - 1, 0) if 0 < pooled < 1 else 0
    if degrees == 0:
        return ChiSquare(0.0, 0, 1.0, "asymptotic")

    def statistic(drawn: Table) -> Table:
        return np.asarray(((drawn - of * pooled) ** 2 / of).sum(axis=-1) / (pooled * (1 - pooled)))

    if of.min() * min(pooled, 1 - pooled) >= ENOUGH:
        return _asymptotic(float(statistic(hits)), degrees)
    rng = np.random.default_rng(seed)
    return _drawn(
        statistic, hits, degrees, lambda: rng.multivariate_hypergeometric(of, total), n_cells=len(of)
    )


def even_spread(counts: Table, *, seed: int = 0) -> ChiSquare:
    """Are the counts of each row, shape (R, J), even over its J cells?

    Thin tables are drawn given the total of each row, which makes the test exact.
    """
    counts = counts[counts.sum(axis=1) > 0]
    totals, width = counts.sum(axis=1), counts.shape[1]
    degrees = len(totals) * (width - 1)
    if degrees == 0:
        return ChiSquare(0.0, 0, 1.0, "asymptotic")

    def statistic(drawn: Table) -> Table:
        return np.asarray(((drawn**2).sum(axis=1) * width / totals - totals).sum())

    if totals.min() / width >= ENOUGH:
        return _asymptotic(float(statistic(counts)), degrees)
    rng = np.random.default_rng(seed)
    starts = np.repeat(np.arange(len(totals)) * width, totals)

    def draw() -> Table:
        # One cell for each item, not a multinomial for each row: 1,000 classes have mostly empty cells.
        cells = starts + rng.integers(width, size=len(starts))
        return np.bincount(cells, minlength=counts.size).reshape(counts.shape)

    return _drawn(statistic, counts, degrees, draw, n_cells=counts.size + len(starts))


def _asymptotic(statistic: float, degrees: int) -> ChiSquare:
    return ChiSquare(statistic, degrees, float(chdtrc(degrees, statistic)), "asymptotic")


def _drawn(
    statistic: Callable[[Table], Table], counts: Table, degrees: int, draw: Callable[[], Table], n_cells: int
) -> ChiSquare:
    seen = float(statistic(counts))
    n_draws = min(999, max(99, WORK // n_cells))
    # Ties are common in thin tables: rounding must not decide them.
    extreme = sum(float(statistic(draw())) >= seen * (1 - 1e-9) for _ in range(n_draws))
    return ChiSquare(seen, degrees, (1 + extreme) / (1 + n_draws), "monte-carlo")
