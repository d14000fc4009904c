"""What the noise looks like: symmetric or not, and the patterns that have a name."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.noise.chisquare import ChiSquare, even_spread, same_share
from assay.noise.intervals import share_bounds
from assay.types import Counts


@dataclass(frozen=True)
class Symmetry:
    """Test of symmetric noise: one noise rate for all classes, wrong labels even over the others.

    The two halves of that null are tested apart. A difference in rates would drown in the K (K - 2)
    degrees of freedom of the spread if both went into one sum.
    """

    same_rate: ChiSquare
    """Do the classes share one noise rate?"""
    same_spread: ChiSquare
    """Do the wrong labels of each class spread evenly over the other classes?"""
    false_alarm: float = 0.05
    """P(rejected) for noise that is symmetric."""

    @property
    def statistic(self) -> float:
        """Sum of both halves."""
        return self.same_rate.statistic + self.same_spread.statistic

    @property
    def degrees(self) -> int:
        """Degrees of freedom of both halves."""
        return self.same_rate.degrees + self.same_spread.degrees

    @property
    def p_value(self) -> float:
        """P(the smaller of two p-values is this small); the halves are independent under the null."""
        return 1 - (1 - min(self.same_rate.p_value, self.same_spread.p_value)) ** self._n_tests

    @property
    def limit(self) -> float:
        """The p-value below which one half alone rejects."""
        return float(1 - (1 - self.false_alarm) ** (1 / self._n_tests))

    @property
    def _n_tests(self) -> int:
        """Two classes leave nothing to spread over: an empty half must not cost power."""
        return max(sum(half.degrees > 0 for half in (self.same_rate, self.same_spread)), 1)

    @property
    def rejected(self) -> bool:
        """True if the noise is not symmetric."""
        return self.p_value < self.false_alarm

    @property
    def kind(self) -> str:
        """``monte-carlo`` if a half was too thin for the chi-square law, else ``asymptotic``."""
        kinds = {self.same_rate.kind, self.same_spread.kind}
        return "monte-carlo" if "monte-carlo" in kinds else "asymptotic"

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        names = ("statistic", "degrees", "p_value", "rejected", "kind", "false_alarm")
        whole = {name: getattr(self, name) for name in names}
        return {**whole, "same_rate": self.same_rate.to_json(), "same_spread": self.same_spread.to_json()}


def symmetry_test(counts: Counts, *, false_alarm: float = 0.05, seed: int = 0) -> Symmetry:
    """Chi-square test of the null that only one number, the noise rate, makes the transition.

    Parameters
    ----------
    counts : (K, K) trusted pairs at [true, given]; rows of zeros say nothing
    false_alarm : P(rejected) wanted for symmetric noise
    seed : for the tables drawn where counts are thin

    Source : Pearson's chi-square (Agresti 2013, Categorical Data Analysis, chapter 3); the smaller of
        two p-values as in Šidák (1967), doi:10.1080/01621459.1967.10482935
    """
    wrong = off_diagonal(counts).sum(axis=1)
    rate = same_share(wrong, counts.sum(axis=1), seed=seed)
    return Symmetry(rate, even_spread(off_diagonal(counts), seed=seed + 1), false_alarm)


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """The (K, K - 1) entries off the diagonal, row by row."""
    size = len(matrix)
    return matrix[~np.eye(size, dtype=bool)].reshape(size, size - 1)


def renamed(counts: Counts) -> dict[int, int]:
    """Classes that surely get the label of one other class more often than not: {true: given}."""
    most = off_diagonal(counts).max(axis=1, initial=0)
    # Bonferroni: among 1,000 classes of a few pairs each, some look renamed by chance.
    low, _ = share_bounds(most, counts.sum(axis=1), level=1 - 0.05 / len(counts))
    others = counts - np.diag(np.diag(counts))
    return {int(i): int(others[i].argmax()) for i in np.flatnonzero(low > 0.5)}


def swaps(counts: Counts) -> tuple[tuple[int, int], ...]:
    """Pairs of classes (a < b) that surely carry each other's label more often than not."""
    other = renamed(counts)
    return tuple((a, b) for a, b in sorted(other.items()) if a < b and other.get(b) == a)


def is_pair_flip(counts: Counts) -> bool:
    """True if at least 80 % of the wrong labels of the classes go to one other class each.

    Classes with fewer than five wrong labels are left out: a single one is always in one place.
    """
    wrong = off_diagonal(counts)
    wrong = wrong[wrong.sum(axis=1) >= 5]
    return wrong.size > 0 and bool(wrong.max(axis=1).sum() >= 0.8 * wrong.sum())
