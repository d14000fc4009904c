import numpy as np
from hypothesis import given as arbitrary
from hypothesis import strategies as st

from assay.correct.label_issues import rank_label_issues
from assay.types import UNKNOWN


def test_the_least_probable_label_comes_first():
    """Rows are ranked by the probability of the label that they have."""
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    assert rank_label_issues(np.array([0, 0, 0]), probs).tolist() == [1, 2, 0]
    assert rank_label_issues(np.array([1, 1, 1]), probs).tolist() == [0, 2, 1]


def test_equal_ones_stay_in_the_order_of_the_input():
    """Ties are broken by the row, so that the same data give the same list."""
    wrong = np.random.default_rng(0).choice([0.1, 0.5, 0.9], 2000)
    ranked = rank_label_issues(np.zeros(2000, int), np.column_stack([1 - wrong, wrong]))
    assert ranked.tolist() == sorted(range(2000), key=lambda row: (-wrong[row], row))


@arbitrary(st.integers(0, 2**32 - 1))
def test_each_given_label_is_listed_once(seed):
    """All rows with a label are there, those without are not, and the probabilities rise."""
    rng = np.random.default_rng(seed)
    noisy, probs = rng.integers(UNKNOWN, 3, 30), rng.dirichlet(np.ones(3), 30)
    ranked = rank_label_issues(noisy, probs)
    assert sorted(ranked) == np.flatnonzero(noisy != UNKNOWN).tolist()
    assert (np.diff(probs[ranked, noisy[ranked]]) >= 0).all()
