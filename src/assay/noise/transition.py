"""From pairs of labels to P(noisy | true): tests of the noise's structure, and the transition matrix.

Both chi-square tests condition on what the null hypothesis leaves open. Where expected counts are large the
p-value is that of the chi-square law; elsewhere tables are drawn under the same condition.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import chdtrc, gammaln

from assay.data.simulate import symmetric
from assay.errors import LabelError
from assay.noise.intervals import share_bounds
from assay.types import UNKNOWN, Counts, Labels, Prior, Probs, Transition, same_length, unmasked

ENOUGH = 5  # expected in every cell for the chi-square law (Cochran 1954, doi:10.2307/3001616)
DRAWS = 999  # tables drawn for the p-value of thin counts
WORK = 200_000_000  # numbers to draw, a few seconds: the largest tables get fewer draws, never under 99
AT_ONCE = 100_000  # of those, drawn together: they stay in the cache of a core

# Bounds of a strength: a cell never seen keeps some probability, and a search has an end.
WEAKEST, STRONGEST = 1.0, 1e6


PSEUDO_COUNTS = 20
"""Weight of the predictions in each row of a transition, in trusted images."""


@dataclass(frozen=True)
class ChiSquare:
    """One test: how surprising the counts are if the null hypothesis holds."""

    statistic: float
    """Pearson's sum of (counted - expected)² / expected."""
    degrees: int
    """Degrees of freedom."""
    p_value: float
    kind: str
    """Source of the p-value: ``asymptotic`` (the chi-square law) or ``monte-carlo`` (drawn tables)."""


NOTHING_TO_TEST = ChiSquare(0.0, 0, 1.0, "asymptotic")


@dataclass(frozen=True)
class Symmetry:
    """Test of symmetric noise: one noise rate for all classes, wrong labels even over the others.

    The two halves of that hypothesis are tested apart: in one sum a difference in rates would drown in the
    K (K - 2) degrees of freedom of the spread.
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
        # Two classes leave nothing to spread over: an empty half must not cost power.
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
        return {name: getattr(self, name) for name in names} | {
            "same_rate": asdict(self.same_rate),
            "same_spread": asdict(self.same_spread),
        }


def symmetry_test(counts: Counts, *, seed: int = 0, effect: float = 1.0) -> Symmetry:
    """Chi-square test of the hypothesis that one number, the noise rate, makes the transition matrix.

    Parameters
    ----------
    counts : (K, K) images at [true, noisy]; rows of zeros are no evidence
    seed : for the tables drawn where counts are thin
    effect : design effect of images in groups, by which the statistics are divided

    Source : Pearson's chi-square (Agresti 2013, Categorical Data Analysis, chapter 3); the smaller of
        two p-values as in Šidák (1967), doi:10.1080/01621459.1967.10482935; of groups, Rao & Scott (1981),
        doi:10.1080/01621459.1981.10477633
    """
    wrong = off_diagonal(counts)
    rate = same_share(wrong.sum(axis=1), counts.sum(axis=1), seed=seed)
    spread = even_spread(wrong, seed=seed + 1)
    return Symmetry(_divided(rate, effect), _divided(spread, effect))


def _divided(test: ChiSquare, effect: float) -> ChiSquare:
    if effect == 1 or test.degrees == 0:
        return test
    statistic = test.statistic / effect
    return ChiSquare(statistic, test.degrees, float(chdtrc(test.degrees, statistic)), "asymptotic")


def same_share(hits: np.ndarray, of: np.ndarray, *, seed: int = 0) -> ChiSquare:
    """Do all groups have one share, ``hits[i]`` of ``of[i]``? Drawn tables keep the total of hits."""
    # Here: most commands need an interval and no test, and scipy.stats takes longer to load than the rest.
    from scipy.stats import MonteCarloMethod, chi2_contingency
    from scipy.stats.contingency import expected_freq

    hits, of = hits[of > 0], of[of > 0]
    table = np.stack([hits, of - hits])
    if len(of) < 2 or not table.any(axis=1).all():
        return NOTHING_TO_TEST
    thin = expected_freq(table).min() < ENOUGH
    # In batches, for the memory: all draws at once take a gigabyte for ten thousand groups.
    draw = MonteCarloMethod(n_resamples=DRAWS, batch=100, rng=np.random.default_rng(seed)) if thin else None
    found = chi2_contingency(table, correction=False, method=draw)
    kind = "monte-carlo" if thin else "asymptotic"
    return ChiSquare(float(found.statistic), len(of) - 1, float(found.pvalue), kind)


def even_spread(counts: np.ndarray, *, seed: int = 0) -> ChiSquare:
    """Are the counts of each row, shape (R, J), even over its J cells? Drawn tables keep the row totals.

    Source : Besag & Clifford (1989), doi:10.1093/biomet/76.4.633, for the p-value of drawn tables
    """
    counts = counts[counts.sum(axis=1) > 0]
    totals, width = counts.sum(axis=1), counts.shape[1]
    degrees = len(totals) * (width - 1)
    if degrees == 0:
        return NOTHING_TO_TEST

    def statistic(drawn: np.ndarray) -> np.ndarray:
        """Of each table of (..., R, J)."""
        found: np.ndarray = ((drawn**2).sum(axis=-1) * width / totals - totals).sum(axis=-1)
        return found

    seen = float(statistic(counts))
    if totals.min() / width >= ENOUGH:
        return ChiSquare(seen, degrees, float(chdtrc(degrees, seen)), "asymptotic")
    rng, extreme = np.random.default_rng(seed), 0
    starts = np.repeat(np.arange(len(totals)) * width, totals)
    n_draws = min(DRAWS, max(99, WORK // (counts.size + len(starts))))
    at_once = max(1, AT_ONCE // (counts.size + len(starts)))
    for first in range(0, n_draws, at_once):
        n = min(at_once, n_draws - first)
        # One cell for each item, not a multinomial for each row: 1,000 classes have mostly empty cells.
        cells = starts + rng.integers(width, size=(n, len(starts)))
        cells += np.arange(n)[:, None] * counts.size
        drawn = np.bincount(cells.ravel(), minlength=n * counts.size).reshape(n, *counts.shape)
        # Ties are common in thin tables: rounding must not decide them.
        extreme += int((statistic(drawn) >= seen * (1 - 1e-9)).sum())
    return ChiSquare(seen, degrees, (1 + extreme) / (1 + n_draws), "monte-carlo")


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """The (K, K - 1) entries off the diagonal, row by row."""
    size = len(matrix)
    return matrix[~np.eye(size, dtype=bool)].reshape(size, size - 1)


def renamed(counts: Counts) -> dict[int, int]:
    """Classes that surely get the label of one other class more often than not: {true: noisy}."""
    most = off_diagonal(counts).max(axis=1, initial=0)
    # Bonferroni: among 1,000 classes of a few pairs each, some look renamed by chance.
    low, _ = share_bounds(most, counts.sum(axis=1), level=1 - 0.05 / len(counts))
    others = counts - np.diag(np.diag(counts))
    return {int(i): int(others[i].argmax()) for i in np.flatnonzero(low > 0.5)}


@dataclass(frozen=True)
class Shrinkage:
    """How many pairs of a class it takes to outweigh the other classes."""

    rate: float
    """For the noise rate of a class."""
    spread: float
    """For the spread of the wrong labels of a class over the others."""


def count_pairs(noisy: Labels, trusted: Labels, n_classes: int) -> Counts:
    """Number of images at [true, noisy]; those with an UNKNOWN label are left out."""
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


def fit_transition(
    counts: Counts, seed: int = 0, effect: float = 1.0
) -> tuple[Transition, Symmetry, Shrinkage]:
    """P(noisy | true): the one-parameter matrix unless the symmetry test rejects it, else the shrunk one."""
    n_pairs, n_wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    # Not the plain share: no wrong label among the pairs does not make one impossible.
    mean_rate = (n_wrong + 0.5) / (n_pairs + 1)
    full, shrinkage = shrunk_transition(counts, mean_rate)
    symmetry = symmetry_test(counts, seed=seed, effect=effect)
    return full if symmetry.rejected else symmetric(len(counts), mean_rate), symmetry, shrinkage


def mixed_transition(noisy: Labels, trusted: Labels, pred_probs: Probs) -> Transition:
    """P(noisy | true): the trusted pairs, and as many as ``PSEUDO_COUNTS`` of each class from predictions.

    Parameters
    ----------
    pred_probs : P(true | image), out of fold: what is most probable is taken as true
    """
    n_classes = pred_probs.shape[1]
    confused = count_pairs(noisy, pred_probs.argmax(axis=1), n_classes)
    # A class that is never predicted gets the average row: an even one would draw labels to it.
    rate = 1 - (np.trace(confused) + 0.5) / (confused.sum() + 1)
    likely = confused + symmetric(n_classes, rate)
    likely /= likely.sum(axis=1, keepdims=True)
    mixed = count_pairs(noisy, trusted, n_classes) + PSEUDO_COUNTS * likely
    transition: Transition = mixed / mixed.sum(axis=1, keepdims=True)
    return transition


def shrunk_transition(counts: Counts, rate: float) -> tuple[Transition, Shrinkage]:
    """Posterior mean of the transition, rows drawn towards the symmetric matrix of ``rate``.

    All cells are > 0, rows sum to 1; a class without pairs gets the symmetric row.

    Source : empirical Bayes with pseudo-counts as in Fienberg & Holland (1973),
        doi:10.1080/01621459.1973.10481405; two parts as in Connor & Mosimann (1969),
        doi:10.1080/01621459.1969.10500963
    """
    off = off_diagonal(counts)
    # How often a label is wrong and where the wrong ones go are drawn apart: one strength for both about
    # doubled the error where rates differ but wrong labels spread evenly.
    either = np.column_stack([np.diag(counts), off.sum(axis=1)])
    rates, rate_strength = _shrunk(either, np.array([1 - rate, rate]))
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
    from scipy.optimize import minimize_scalar

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
