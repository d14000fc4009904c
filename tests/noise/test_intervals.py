import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.stats import beta, binom

from assay.noise.intervals import Interval, normal_quantile, share_bounds, share_interval, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1500, 2000, 0.7306, 0.7685), (1, 1, 0.2065, 1.0)],
)
def test_known_intervals(successes, n, low, high):
    """Intervals that were worked out from Wilson's formula come out to four digits."""
    interval = wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes, n):
    """More successes than trials, or no trial, is an error that repeats the counts."""
    expected = f"expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        wilson(successes, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
@pytest.mark.parametrize("interval", [lambda level: wilson(1, 2, level), normal_quantile])
def test_a_level_is_a_probability(interval, level):
    """A level given as percent, or one that cannot be, is an error."""
    with pytest.raises(ValueError, match=rf"^level must lie in \(0, 1\), got {level}$"):
        interval(level)


def test_between_the_ends_it_is_the_jeffreys_interval():
    """Some hits and some misses give the equal-tailed quantiles of Beta(hits + 1/2, misses + 1/2)."""
    found = share_interval(7, 20, level=0.9)
    assert found.estimate == 0.35
    assert (found.low, found.high) == pytest.approx(beta.ppf([0.05, 0.95], 7.5, 13.5))


def test_with_no_hits_the_interval_is_one_sided():
    """The bound after no hits is the share at which that happens with probability 1 - level."""
    found = share_interval(0, 500)
    assert (found.estimate, found.low) == (0.0, 0.0)
    assert binom.pmf(0, 500, found.high) == pytest.approx(0.05)


def test_nothing_counted_leaves_everything_open():
    """Of none, the share may be anything."""
    assert share_interval(0, 0) == Interval(0.5, 0.0, 1.0, 0.95)


@arbitrary(st.integers(0, 300), st.integers(1, 300), st.floats(0.5, 0.999))
def test_the_interval_holds_the_share_and_mirrors(hits, misses, level):
    """The share lies inside, and counting misses instead gives the mirror image."""
    low, high = share_bounds(np.array([hits, misses]), np.array([hits + misses] * 2), level)
    assert 0 <= low[0] <= hits / (hits + misses) <= high[0] <= 1
    assert low[0] == pytest.approx(1 - high[1], abs=1e-9)


@pytest.mark.parametrize(("n", "share"), [(500, 0.003), (100, 0.6), (30, 0.1), (20, 0.02)])
def test_it_holds_the_true_share_as_often_as_stated(n, share):
    """Over all outcomes, weighted by their probability, 95 % intervals cover at least 91.5 %."""
    hits = np.arange(n + 1)
    low, high = share_bounds(hits, np.full(n + 1, n))
    cover = binom.pmf(hits, n, share)[(low <= share) & (share <= high)].sum()
    assert cover > 0.915
