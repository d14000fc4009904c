import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import dirichlet_multinomial

from assay.data.simulate import symmetric
from assay.noise.transition import dirichlet_strength, shrunk_prior, shrunk_transition

TABLES = st.integers(2, 6).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.integers(0, 60)))


def test_the_symmetric_matrix_has_one_rate():
    """The diagonal is right, the rest is shared."""
    assert symmetric(3, 0.6) == pytest.approx(np.array([[4, 3, 3], [3, 4, 3], [3, 3, 4]]) / 10)


@arbitrary(TABLES, st.floats(0.01, 0.99))
def test_rows_are_probabilities(counts, rate):
    """Whatever was counted, rows sum to 1 and no cell is impossible."""
    matrix, _ = shrunk_transition(counts, rate)
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert matrix.min() > 0


@arbitrary(TABLES, st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_matrix(counts, random):
    """No class is special."""
    order = np.array(random.sample(range(len(counts)), len(counts)))
    matrix, _ = shrunk_transition(counts, 0.3)
    moved, _ = shrunk_transition(counts[np.ix_(order, order)], 0.3)
    assert moved == pytest.approx(matrix[np.ix_(order, order)], rel=1e-3, abs=1e-6)


def test_a_class_without_pairs_gets_the_symmetric_row():
    """Nothing is known of it but what all classes share."""
    counts = np.array([[50, 20, 2], [0, 0, 0], [10, 1, 60]])
    matrix, _ = shrunk_transition(counts, 0.25)
    assert matrix[1] == pytest.approx([0.125, 0.75, 0.125])


def test_each_row_lies_between_its_counts_and_the_shared_row():
    """The noise rate of a class is drawn towards the common one, and never past it."""
    counts = np.array([[90, 5, 5], [20, 60, 20], [1, 1, 2]])
    matrix, _ = shrunk_transition(counts, 0.25)
    wrong = 1 - np.diag(matrix)
    assert 0.1 < wrong[0] < 0.25 < wrong[1] < 0.4
    assert 0.25 < wrong[2] < 0.5


def test_many_pairs_speak_for_themselves():
    """With 100,000 pairs a class, the matrix is what was counted."""
    counts = np.array([[70_000, 20_000, 10_000], [5_000, 90_000, 5_000], [0, 50_000, 50_000]])
    matrix, _ = shrunk_transition(counts, 0.3)
    assert matrix == pytest.approx(counts / 100_000, abs=1e-3)


def test_the_strength_is_that_of_the_best_likelihood():
    """No strength on a grid explains the counts better than the one found."""
    rng, centre = np.random.default_rng(0), np.array([0.5, 0.3, 0.2])
    counts = np.array([rng.multinomial(40, p) for p in rng.dirichlet(12 * centre, size=30)])
    found = dirichlet_strength(counts, centre)

    def likelihood(strength):
        return dirichlet_multinomial(strength * centre, counts.sum(axis=1)).logpmf(counts).sum()

    assert likelihood(found) >= max(map(likelihood, np.geomspace(1, 1e6, 200))) - 1e-3
    assert 6 < found < 24


def test_rates_and_spread_shrink_apart():
    """Rates that differ keep their difference while an even spread is pooled."""
    counts = np.full((10, 10), 2)
    np.fill_diagonal(counts, np.linspace(5, 300, 10).astype(int))
    _, shrinkage = shrunk_transition(counts, 0.3)
    assert shrinkage.rate < 20
    assert shrinkage.spread > 1000


def test_equal_classes_have_equal_priors_and_absent_ones_some():
    """Balanced counts give 1 / K; a class never seen is rare, not impossible."""
    assert shrunk_prior(np.array([50, 50])) == pytest.approx([0.5, 0.5])
    prior = shrunk_prior(np.array([900, 100, 0]))
    assert prior.sum() == pytest.approx(1)
    assert 0 < prior[2] < 0.01
    assert prior[0] == pytest.approx(0.9, abs=0.01)
