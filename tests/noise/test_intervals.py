import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.stats import beta, binom

from assay.noise.intervals import Interval, share_bounds, share_interval


def test_between_the_ends_it_is_the_jeffreys_interval():
    """Some hits and some misses give the equal-tailed quantiles of Beta(hits + 1/2, misses + 1/2)."""
    found = share_interval(7, 20, level=0.9)
    assert found.estimate == 0.35
    assert (found.low, found.high) == pytest.approx(beta.ppf([0.05, 0.95], 7.5, 13.5))


def test_no_hits_put_all_the_doubt_on_one_side():
    """The bound after no hits is the share at which that happens with probability 1 - level."""
    found = share_interval(0, 500)
    assert (found.estimate, found.low) == (0.0, 0.0)
    assert binom.pmf(0, 500, found.high) == pytest.approx(0.05)


def test_nothing_counted_says_nothing():
    """Of none, the share may be anything."""
    assert share_interval(0, 0) == Interval(0.5, 0.0, 1.0, 0.95)


@arbitrary(st.integers(0, 300), st.integers(1, 300), st.floats(0.5, 0.999))
def test_the_interval_holds_the_share_and_mirrors(hits, misses, level):
    """The share lies inside, and counting misses instead gives the mirror image."""
    low, high = share_bounds(np.array([hits, misses]), np.array([hits + misses] * 2), level)
    assert 0 <= low[0] <= hits / (hits + misses) <= high[0] <= 1
    assert low[0] == pytest.approx(1 - high[1], abs=1e-9)


@arbitrary(st.integers(0, 40), st.integers(0, 40))
def test_ten_times_the_data_narrow_it(hits, misses):
    """The same share of more images is known better."""
    few = np.array([hits, misses])
    low, high = share_bounds(few[:1], few.sum(keepdims=True))
    low_10, high_10 = share_bounds(10 * few[:1], 10 * few.sum(keepdims=True))
    assert (high_10 - low_10)[0] <= (high - low)[0]


@pytest.mark.parametrize(("n", "share"), [(500, 0.003), (100, 0.6), (30, 0.1), (20, 0.02)])
def test_it_holds_the_true_share_as_often_as_it_says(n, share):
    """Over all outcomes, weighted by their probability, 95 % intervals cover at least 91.5 %."""
    hits = np.arange(n + 1)
    low, high = share_bounds(hits, np.full(n + 1, n))
    cover = binom.pmf(hits, n, share)[(low <= share) & (share <= high)].sum()
    assert cover > 0.915


def test_an_interval_is_a_plain_dict_in_json():
    """Names and numbers survive."""
    assert Interval(0.5, 0.25, 0.75, 0.9).to_json() == {
        "estimate": 0.5,
        "low": 0.25,
        "high": 0.75,
        "level": 0.9,
    }
