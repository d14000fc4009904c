import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from assay.noise.intervals import normal_quantile, wilson

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.01, 0.999)


@given(counts, levels)
def test_the_interval_holds_the_share_and_stays_in_range(count, level):
    """Low, share and high lie in order within [0, 1], and the level comes back."""
    interval = wilson(*count, level)
    assert 0 <= interval.low <= interval.estimate == count[0] / count[1] <= interval.high <= 1
    assert interval.level == level


@given(counts, levels)
def test_scipy_finds_the_same_interval(count, level):
    """The bounds are those of scipy's Wilson interval without continuity correction."""
    expected = binomtest(*count).proportion_ci(level, method="wilson")
    interval = wilson(*count, level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1500, 2000, 0.7306, 0.7685), (1, 1, 0.2065, 1.0)],
)
def test_known_intervals(successes, n, low, high):
    """Intervals that were worked out from Wilson's formula come out to four digits."""
    interval = wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(counts, st.integers(2, 50))
def test_more_images_narrow_the_interval(count, times):
    """The same share of more trials is known better."""
    few, many = wilson(*count), wilson(count[0] * times, count[1] * times)
    assert many.high - many.low < few.high - few.low


@given(counts)
def test_failures_mirror_successes(count):
    """The interval of the failures is the interval of the successes, seen from 1."""
    successes, n = count
    right, wrong = wilson(successes, n), wilson(n - successes, n)
    assert (wrong.low, wrong.high) == pytest.approx((1 - right.high, 1 - right.low), abs=1e-12)


@given(counts, levels, levels)
def test_a_higher_level_is_wider(count, one, other):
    """To be surer is to say less."""
    low, high = sorted((one, other))
    assert wilson(*count, high).low <= wilson(*count, low).low
    assert wilson(*count, high).high >= wilson(*count, low).high


def test_the_level_is_kept():
    """Over many draws of a known share, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    intervals = [wilson(int(hits), 200) for hits in rng.binomial(200, 0.9, size=2000)]
    assert np.mean([i.low <= 0.9 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes, n):
    """More successes than trials, or no trial, is an error that repeats the counts."""
    expected = f"expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        wilson(successes, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level):
    """A level given as percent, or that nothing reaches, is an error."""
    with pytest.raises(ValueError, match=rf"^level must lie in \(0, 1\), got {level}$"):
        wilson(1, 2, level)


@given(levels)
def test_the_quantile_leaves_the_rest_on_both_sides(level):
    """Between minus and plus the quantile lies the level of a normal variable."""
    z = normal_quantile(level)
    assert norm.cdf(z) - norm.cdf(-z) == pytest.approx(level)
