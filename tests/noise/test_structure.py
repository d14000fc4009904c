import numpy as np
import pytest

from assay.data.simulate import symmetric
from assay.noise.structure import (
    ChiSquare,
    Symmetry,
    is_pair_flip,
    off_diagonal,
    renamed,
    swaps,
    symmetry_test,
)
from assay.noise.transition import count_pairs


def counts_of(draw_pairs, transition, n, seed=0):
    noisy, trusted = draw_pairs(transition, n, seed)
    return count_pairs(noisy, trusted, len(transition))


def test_off_diagonal_keeps_the_rows():
    """The entries off the diagonal stay in their row and order."""
    assert off_diagonal(np.arange(9).reshape(3, 3)).tolist() == [[1, 2], [3, 5], [6, 7]]


@pytest.mark.parametrize("n", [150, 3000])
def test_symmetric_noise_is_rarely_rejected(draw_pairs, n):
    """Of 120 sets of symmetric noise, thin or not, about 5 % are called something else."""
    transition = symmetric(8, 0.5)
    found = [symmetry_test(counts_of(draw_pairs, transition, n, seed), seed=seed) for seed in range(120)]
    assert np.mean([one.rejected for one in found]) < 0.1
    assert {one.kind for one in found} == {"monte-carlo" if n == 150 else "asymptotic"}


def test_rates_that_differ_are_found_in_their_half(draw_pairs):
    """Noise rates from 20 % to 60 % are rejected by the rates, not by the spread."""
    rates = np.linspace(0.2, 0.6, 10)
    transition = np.array([symmetric(10, rate)[i] for i, rate in enumerate(rates)])
    found = symmetry_test(counts_of(draw_pairs, transition, 1000))
    assert found.rejected
    assert found.same_rate.p_value < 1e-3
    assert found.same_spread.p_value > 0.05


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


def test_json_holds_the_verdict_and_both_halves():
    """A reader of the file sees what was decided and why."""
    written = symmetry_test(np.array([[80, 20], [60, 40]])).to_json()
    assert written["rejected"] is True
    assert written["same_rate"]["degrees"] == 1
    assert written["same_spread"] == ChiSquare(0.0, 0, 1.0, "asymptotic").to_json()


def test_swapped_and_renamed_classes_are_named():
    """0 and 1 carry each other's label, 2 is called 3, and 3 is itself."""
    counts = np.array([[0, 50, 0, 0], [48, 2, 0, 0], [1, 0, 4, 45], [0, 0, 0, 50]])
    assert renamed(counts) == {0: 1, 1: 0, 2: 3}
    assert swaps(counts) == ((0, 1),)


def test_a_handful_of_pairs_renames_nothing():
    """Two of two wrong images may be chance."""
    assert renamed(np.array([[0, 2], [0, 50]])) == {}


def test_renaming_is_rarely_seen_where_there_is_none(draw_pairs):
    """Among 300 classes of five pairs with 30 % of labels wrong, no class is called renamed."""
    transition = 0.7 * np.eye(300) + 0.3 * np.roll(np.eye(300), 1, axis=1)
    assert renamed(counts_of(draw_pairs, transition, 1500)) == {}


def test_a_pair_flip_is_told_from_a_spread():
    """Wrong labels in one place are a pair flip; wrong labels everywhere, or hardly any, are not."""
    next_class = np.roll(np.eye(5, dtype=int), 1, axis=1)
    assert is_pair_flip(70 * np.eye(5, dtype=int) + 30 * next_class)
    assert not is_pair_flip(np.full((5, 5), 10))
    assert not is_pair_flip(70 * np.eye(5, dtype=int) + next_class)
