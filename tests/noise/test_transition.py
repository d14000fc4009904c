import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.stats import chisquare, dirichlet_multinomial

from assay.data.simulate import symmetric
from assay.errors import LabelError
from assay.noise.transition import (
    ChiSquare,
    Symmetry,
    count_pairs,
    dirichlet_strength,
    even_spread,
    mixed_transition,
    renamed,
    same_share,
    shrunk_prior,
    shrunk_transition,
    symmetry_test,
)
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
        ([0, 3, 5], [0, 1, 2], r"noisy\[1\]: expected a class from 0 to 2, or -1 .*, got 3 \(2 such"),
        ([0, 1, 2], [0, 1, -2], r"trusted\[2\]: expected a class from 0 to 2, or -1 .*, got -2 \(1 such"),
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


def counts_of(draw_pairs, transition, n, seed=0):
    noisy, trusted = draw_pairs(transition, n, seed)
    return count_pairs(noisy, trusted, len(transition))


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


def test_thin_tables_raise_no_more_false_alarms_than_stated():
    """Of 150 thin tables drawn with one share, about 5 % have p < 0.05."""
    rng, of = np.random.default_rng(0), np.array([3, 8, 5, 9, 2, 6])
    p_values = [same_share(rng.binomial(of, 0.3), of, seed=i).p_value for i in range(150)]
    assert np.mean(np.array(p_values) < 0.05) < 0.1


@pytest.mark.parametrize("n", [150, 3000])
def test_symmetric_noise_is_rarely_rejected(draw_pairs, n):
    """Of 120 sets of symmetric noise, thin or not, about 5 % are called something else."""
    transition = symmetric(8, 0.5)
    found = [symmetry_test(counts_of(draw_pairs, transition, n, seed), seed=seed) for seed in range(120)]
    assert np.mean([one.rejected for one in found]) < 0.1
    assert {one.kind for one in found} == {"monte-carlo" if n == 150 else "asymptotic"}


def test_an_uneven_spread_is_found_in_its_half(draw_pairs):
    """Wrong labels that all go to the next class are rejected by the spread, not by the rates."""
    transition = 0.7 * np.eye(10) + 0.3 * np.roll(np.eye(10), 1, axis=1)
    found = symmetry_test(counts_of(draw_pairs, transition, 300))
    assert found.rejected
    assert found.same_spread.p_value < 0.01
    assert found.same_rate.p_value > 0.05


def test_the_halves_add_up():
    """Statistic and degrees are sums; p is for the smaller of two; a thin half makes it monte-carlo."""
    half, other = ChiSquare(3.0, 2, 0.2, "asymptotic"), ChiSquare(9.0, 5, 0.01, "monte-carlo")
    both = Symmetry(half, other)
    assert (both.statistic, both.degrees, both.kind) == (12.0, 7, "monte-carlo")
    assert both.p_value == pytest.approx(1 - 0.99**2)
    assert both.rejected
    assert not Symmetry(half, other, false_alarm=0.01).rejected


def test_an_empty_half_costs_no_power():
    """With two classes the spread has no degrees, and the p-value is that of the rates."""
    found = symmetry_test(np.array([[80, 20], [60, 40]]))
    assert found.degrees == 1
    assert found.p_value == pytest.approx(found.same_rate.p_value)


@pytest.mark.parametrize("counts", [np.diag([50, 50, 50]), np.zeros((3, 3), int), np.diag([1, 0, 0])])
def test_no_wrong_label_is_no_evidence(counts):
    """Without a wrong label nothing speaks against symmetry."""
    found = symmetry_test(counts)
    assert (found.p_value, found.rejected) == (1.0, False)


def test_renaming_is_rarely_seen_where_there_is_none(draw_pairs):
    """Among 300 classes of five pairs with 30 % of labels wrong, no class is called renamed."""
    transition = 0.7 * np.eye(300) + 0.3 * np.roll(np.eye(300), 1, axis=1)
    assert renamed(counts_of(draw_pairs, transition, 1500)) == {}


def test_a_few_trusted_pairs_outweigh_predictions_slowly():
    """Twenty pseudo-counts a class come from predictions; a class never predicted has the average row."""
    noisy = np.array([0] * 90 + [1] * 110)
    pred_probs = np.eye(3)[np.array([0] * 100 + [1] * 100)]
    nothing = np.full(200, UNKNOWN)
    alone = mixed_transition(noisy, nothing, pred_probs)
    np.testing.assert_allclose(alone.sum(axis=1), 1)
    assert alone[0, 0] == pytest.approx(0.9, abs=0.01)
    assert alone[2, 2] == pytest.approx(0.95, abs=0.01)
    trusted = nothing.copy()
    trusted[90:110] = 0  # twenty labels 1 of class 0
    assert mixed_transition(noisy, trusted, pred_probs)[0, 0] == pytest.approx(0.45, abs=0.01)
