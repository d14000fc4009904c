import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from assay.noise.structure import ChiSquare, even_spread, same_share


def test_same_share_is_pearsons_test_of_a_table():
    """With many counts, statistic, degrees and p-value are those of the 2 x R contingency table."""
    hits, of = np.array([40, 60, 55]), np.array([100, 110, 120])
    expected = chi2_contingency(np.stack([hits, of - hits]), correction=False)
    found = same_share(hits, of)
    assert (found.degrees, found.kind) == (expected.dof, "asymptotic")
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_even_spread_is_pearsons_test_of_each_row_summed():
    """With many counts, the statistic is the sum over rows of the test against equal shares."""
    counts = np.array([[20, 30, 25], [12, 8, 10]])
    found = even_spread(counts)
    assert (found.degrees, found.kind) == (4, "asymptotic")
    assert found.statistic == pytest.approx(chisquare(counts, axis=1).statistic.sum())


def test_a_drawn_p_value_is_that_of_fishers_tables():
    """Two groups of four with 4 and 0 hits: 2 of the 70 ways to place the hits are as extreme."""
    found = same_share(np.array([4, 0]), np.array([4, 4]))
    assert found.kind == "monte-carlo"
    assert found.p_value == pytest.approx(2 / 70, abs=0.02)


def test_a_drawn_spread_counts_the_ways():
    """Three items in one of three cells: 3 of 27 ways are as uneven."""
    found = even_spread(np.array([[3, 0, 0]]))
    assert found.kind == "monte-carlo"
    assert found.p_value == pytest.approx(3 / 27, abs=0.04)


@pytest.mark.parametrize(
    "found",
    [
        same_share(np.array([0, 0]), np.array([9, 9])),
        same_share(np.array([9, 9]), np.array([9, 9])),
        same_share(np.array([3]), np.array([9])),
        same_share(np.array([3, 0]), np.array([9, 0])),
        even_spread(np.zeros((3, 2), int)),
        even_spread(np.array([[5], [7]])),
    ],
)
def test_nothing_to_compare_is_no_evidence(found):
    """Without hits, misses, a second group or a second cell, nothing was tested and the p-value is 1."""
    assert found == ChiSquare(0.0, 0, 1.0, "asymptotic")


def test_the_same_seed_draws_the_same_tables():
    """The p-value of a thin table is repeatable."""
    counts = np.array([[2, 0, 1], [0, 1, 3]])
    assert even_spread(counts, seed=3) == even_spread(counts, seed=3)


def test_thin_tables_raise_no_more_false_alarms_than_said():
    """Of 150 thin tables drawn with one share, about 5 % have p < 0.05."""
    rng, of = np.random.default_rng(0), np.array([3, 8, 5, 9, 2, 6])
    p_values = [same_share(rng.binomial(of, 0.3), of, seed=i).p_value for i in range(150)]
    assert np.mean(np.array(p_values) < 0.05) < 0.1
