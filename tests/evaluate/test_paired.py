import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from assay.errors import DataError
from assay.evaluate import mcnemar
from assay.types import UNKNOWN

few = st.integers(0, 60)


def compared(only_first, only_second, both=0):
    """The comparison of two classifiers that differ on so many of the images."""
    first, second = np.repeat([[0, 1, 0], [1, 0, 0]], [only_first, only_second, both], axis=1)
    return mcnemar(np.zeros_like(first), first, second)


@st.composite
def rivals(draw):
    """Truth and the predictions of two classifiers, over three classes."""
    labels = st.integers(0, 2)
    rows = draw(st.lists(st.tuples(labels, labels, labels), min_size=1, max_size=50))
    return tuple(np.array(rows).T)


@given(rivals())
def test_swapping_the_two_mirrors_the_comparison(case):
    """The p value stays, the counts change places, the difference of the accuracies changes sign."""
    truth, first, second = case
    one, other = mcnemar(truth, first, second), mcnemar(truth, second, first)
    assert other.p_value == one.p_value
    assert (other.only_first, other.only_second) == (one.only_second, one.only_first)
    assert (other.both_right, other.neither) == (one.both_right, one.neither)
    assert other.difference.estimate == -one.difference.estimate
    assert other.difference.low == pytest.approx(-one.difference.high)
    difference = one.difference
    assert difference.estimate == pytest.approx(np.mean(second == truth) - np.mean(first == truth))
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1


@given(few, few)
def test_the_mid_p_value_is_its_definition(b, c):
    """It is the exact two-sided p less the probability of the table itself."""
    exact = 2 * binom.cdf(min(b, c), b + c, 0.5)
    wanted = min(1.0, exact - binom.pmf(min(b, c), b + c, 0.5))
    assert compared(b, c, 1).p_value == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("b", "c", "expected"), [(1, 7, 10 / 256), (7, 1, 10 / 256), (0, 5, 1 / 32), (3, 3, 1.0), (0, 0, 1.0)]
)
def test_known_p_values(b, c, expected):
    """One against seven, for example, is (1 + 8 + 1) / 256: both tails up to it and below it."""
    assert compared(b, c, 1).p_value == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(0.75, 0.8), (0.9, 0.9), (0.5, 0.95)])
def test_the_interval_of_the_difference_holds_its_level(first, second):
    """Over many draws about 95 % of the intervals hold the true difference."""
    rng = np.random.default_rng(0)
    n, draws = 100, 2000
    right = rng.random((draws, n)) < first
    other = rng.random((draws, n)) < second
    truth = np.ones(n, dtype=int)
    pairs = zip(right.astype(int), other.astype(int), strict=True)
    intervals = [mcnemar(truth, one, another).difference for one, another in pairs]
    covered = np.mean([i.low <= second - first <= i.high for i in intervals])
    assert covered == pytest.approx(0.95, abs=0.02)


def test_a_known_interval():
    """One image against seven of 21: 6 / 21, and the bounds worked out from Bonett and Price's formula."""
    interval = compared(1, 7, 13).difference
    assert interval.estimate == pytest.approx(6 / 21)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0134, 0.5084)


def test_no_prediction_is_a_mistake():
    """UNKNOWN from a classifier counts as wrong."""
    paired = mcnemar(np.array([0, 1]), np.array([0, UNKNOWN]), np.array([0, 1]))
    assert (paired.both_right, paired.only_second) == (1, 1)


def test_nothing_to_compare_is_refused():
    """No image is an error."""
    nothing = np.zeros(0, dtype=int)
    with pytest.raises(DataError, match=r"^expected images that both classifiers predicted, got none"):
        mcnemar(nothing, nothing, nothing)


@pytest.mark.usefixtures("without_shape_checks")
def test_predictions_of_other_images_are_refused():
    """Another number of predictions is refused with both numbers."""
    with pytest.raises(ValueError, match=r"^expected second to predict 2 images, got 1 predictions$"):
        mcnemar(np.array([0, 1]), np.array([0, 1]), np.array([0]))


def test_a_difference_by_groups():
    """Groups of one image change little; where whole groups differ, the interval is wider and p greater."""
    generator = np.random.default_rng(0)
    truth = np.zeros(600, dtype=int)
    groups = np.arange(600) // 20
    second = (generator.random(30) < 0.4)[groups].astype(int)
    first = (generator.random(30) < 0.6)[groups].astype(int)
    plain, alone = (mcnemar(truth, first, second, groups=of) for of in (None, np.arange(600)))
    assert alone.difference.low == pytest.approx(plain.difference.low, abs=1e-3)
    assert alone.p_value == pytest.approx(plain.p_value, abs=0.01)
    found = mcnemar(truth, first, second, groups=groups)
    assert found.difference.estimate == plain.difference.estimate
    assert found.difference.high - found.difference.low > 3 * (plain.difference.high - plain.difference.low)
    assert found.p_value > 1_000 * plain.p_value
    assert (found.only_first, found.only_second) == (plain.only_first, plain.only_second)
    assert mcnemar(truth, first, first, groups=groups).p_value == 1
