import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.stats import dirichlet_multinomial

from assay.errors import LabelError
from assay.noise.transition import count_pairs, dirichlet_strength, shrunk_prior, shrunk_transition
from assay.types import UNKNOWN


@arbitrary(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), max_size=30))
def test_counting_is_the_plain_loop(rows):
    """The fast count equals the loop that defines it."""
    slow = np.zeros((4, 4), int)
    for noisy, trusted in rows:
        if UNKNOWN not in (noisy, trusted):
            slow[trusted, noisy] += 1
    labels = np.array(rows, dtype=np.int64).reshape(-1, 2)
    assert count_pairs(labels[:, 0], labels[:, 1], 4).tolist() == slow.tolist()


@pytest.mark.parametrize(
    ("noisy", "trusted", "message"),
    [
        (
            [0, 3, 5],
            [0, 1, 2],
            r"noisy\[1\]: expected a class from 0 to 2, or -1 for unknown, got 3 \(2 such",
        ),
        (
            [0, 1, 2],
            [0, 1, -2],
            r"trusted\[2\]: expected a class from 0 to 2, or -1 for unknown, got -2 \(1 such",
        ),
    ],
)
def test_a_label_out_of_range_is_named(noisy, trusted, message):
    """The error has the array, the row and the label."""
    with pytest.raises(LabelError, match=message):
        count_pairs(np.array(noisy), np.array(trusted), 3)


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_of_different_length_are_refused():
    """Each image needs both entries, known or not."""
    with pytest.raises(ValueError, match=r"expected one length for all, got \{'noisy': 3, 'trusted': 2\}"):
        count_pairs(np.zeros(3, int), np.zeros(2, int), 2)


def test_many_pairs_need_no_shrinkage():
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
