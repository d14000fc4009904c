import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.special import softmax

from assay.correct import posterior as module
from assay.correct.evidence import log_evidence
from assay.correct.posterior import (
    NO_FLOOR,
    Calibration,
    by_halves,
    calibrate,
    calibrate_on_noisy,
)
from assay.data.simulate import spoil
from assay.types import UNKNOWN

SEEDS = st.integers(0, 2**32 - 1)


def draw_case(seed, n=40, k=4):
    """P(class) of n rows, and a label drawn at random for each; some UNKNOWN."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(k), n), rng.integers(UNKNOWN, k, n)


def draw_labels(probs, seed):
    rng = np.random.default_rng(seed)
    return (probs.cumsum(axis=1) < rng.random((len(probs), 1))).sum(axis=1).clip(max=probs.shape[1] - 1)


@pytest.mark.parametrize("fit", [calibrate, lambda p, y: calibrate_on_noisy(p, log_evidence(y, np.eye(4)))])
def test_without_a_label_nothing_changes(fit):
    """No known label: inverse temperature 1, no bias, the same probabilities."""
    probs, labels = draw_case(0)
    found = fit(probs, np.full_like(labels, UNKNOWN))
    assert (found.inverse_temperature, found.bias.tolist()) == (1.0, [0, 0, 0, 0])
    np.testing.assert_allclose(found.apply(np.array([[0.7, 0.1, 0.1, 0.1]])), [[0.7, 0.1, 0.1, 0.1]])


def test_the_temperature_is_found_from_noisy_labels_alone():
    """No true label is seen, only spoiled ones and how they were spoiled."""
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 40_000)
    bias = np.array([0.4, 0.0, -0.4])
    truth = draw_labels(Calibration(1.7, bias).apply(probs), seed=1)
    transition = np.array([[0.7, 0.2, 0.1], [0.4, 0.6, 0.0], [0.3, 0.3, 0.4]])
    found = calibrate_on_noisy(probs, log_evidence(spoil(truth, transition, seed=2), transition))
    assert found.inverse_temperature == pytest.approx(1.7, rel=0.1)
    np.testing.assert_allclose(found.bias, bias, atol=0.1)


@arbitrary(SEEDS)
def test_permuting_classes_permutes_the_bias(seed):
    """The order of the classes means nothing, and the biases sum to 0."""
    probs, labels = draw_case(seed, n=200)
    order = np.random.default_rng(seed).permutation(4)
    place = np.array([*np.argsort(order), UNKNOWN])
    one, other = calibrate(probs, labels), calibrate(probs[:, order], place[labels])
    assert one.inverse_temperature == pytest.approx(other.inverse_temperature, rel=1e-3)
    np.testing.assert_allclose(one.bias[order], other.bias, atol=2e-3)
    assert one.bias.sum() == pytest.approx(0, abs=1e-9)


def test_a_few_rows_that_are_right_do_not_make_it_sure():
    """Ten right answers leave the doubt that ten answers leave, a thousand remove it."""
    probs = np.tile([[0.6, 0.4], [0.4, 0.6]], (500, 1))
    labels = probs.argmax(axis=1)
    few, many = calibrate(probs[:10], labels[:10]).apply(probs), calibrate(probs, labels).apply(probs)
    assert 0.6 < few.max() < 0.95
    assert many.max() > 0.99


def test_a_vote_of_zero_is_not_never():
    """A classifier that votes 1 or 0 and is right in 95 % of its votes gets 95 %."""
    votes = np.tile([1.0, 0.0, 0.0], (400, 1))
    labels = np.repeat([0, 1, 2], [380, 10, 10])
    found = calibrate(votes, labels).apply(votes[:1])
    np.testing.assert_allclose(found, [[0.95, 0.025, 0.025]], atol=0.02)


def test_a_network_is_calibrated_as_its_head_will_be():
    """Without a least probability what is applied is what a head gives that absorbed it."""
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=12, size=(200, 4))
    labels = draw_labels(softmax(scores / 6, axis=1), 1)
    probs = softmax(scores, axis=1)
    found = calibrate(probs, labels, NO_FLOOR)
    expected = softmax(found.inverse_temperature * scores + found.bias, axis=1)
    np.testing.assert_allclose(found.apply(probs), expected, atol=1e-9)
    assert found.inverse_temperature == pytest.approx(1 / 6, rel=0.3)
    assert np.abs(calibrate(probs, labels).apply(probs) - expected).max() > 0.05


def draw_many_classes(seed):
    """(probs, truth) of 3,000 rows and 60 classes, and of the first 120 what calibrating on them gives."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 60, 3_000)
    probs = softmax(rng.normal(size=(3_000, 60)) + 2 * np.eye(60)[truth], axis=1)
    return probs, truth, calibrate(probs[:120], truth[:120], NO_FLOOR).apply(probs)


def test_few_rows_of_many_classes_are_not_overfitted():
    """With two rows a class, neither their measured accuracy rises nor that of others falls."""
    shares = []
    for seed in range(10):
        probs, truth, probs_of = draw_many_classes(seed)
        halved = by_halves(probs_of[:120], truth[:120], NO_FLOOR)
        right = [p.argmax(axis=1) == truth[: len(p)] for p in (probs, probs_of, halved)]
        shares.append([right[0][:120].mean(), right[1][:120].mean(), right[2].mean()])
        shares[-1] += [right[0][120:].mean(), right[1][120:].mean()]
    before, on_itself, by_the_other_half, new_before, new = np.mean(shares, axis=0)
    assert on_itself == pytest.approx(before, abs=0.015)
    assert by_the_other_half == pytest.approx(before, abs=0.015)
    assert new > new_before - 0.005


def test_of_many_noisy_labels_some_are_enough(monkeypatch):
    """Evenly spread ones: as if no other were known."""
    probs, labels = draw_case(3, n=2_500)
    transition, known = 0.6 * np.eye(4) + 0.1, np.flatnonzero(labels != UNKNOWN)
    monkeypatch.setattr(module, "MOST_NOISY", 1_000)
    found = calibrate_on_noisy(probs, log_evidence(labels, transition))
    assert 1_000 < len(known) <= 2_000
    others = np.setdiff1d(known, known[::2])
    labels[others] = UNKNOWN
    again = calibrate_on_noisy(probs, log_evidence(labels, transition))
    assert found.inverse_temperature == again.inverse_temperature
    np.testing.assert_array_equal(found.bias, again.bias)


def test_halves_can_calibrate_other_probabilities():
    """Each half of them by the calibration that the other half of the first ones gave."""
    probs, truth, _ = draw_many_classes(0)
    other = np.roll(probs, 1, axis=1)[:120]
    found = by_halves(probs[:120], truth[:120], NO_FLOOR, of=other)
    wanted = calibrate(probs[1:120:2], truth[1:120:2], NO_FLOOR).apply(other[::2])
    np.testing.assert_allclose(found[::2], wanted)


def test_a_sure_mistake_makes_less_sure():
    """Also where the true class was given no probability at all: such a loss has no floor."""
    probs = np.tile([1 - 1e-9, 1e-9], (100, 1))
    probs[-1] = [1.0, 0.0]
    trusted = np.repeat([0, 1], [99, 1])
    assert calibrate(probs, trusted, NO_FLOOR).inverse_temperature < 0.5
