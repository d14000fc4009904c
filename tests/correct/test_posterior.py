import re

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st

from assay.correct.posterior import MAX_STRENGTH, fit_strength, log_evidence, posterior
from assay.data.simulate import spoil, symmetric
from assay.errors import LabelError
from assay.types import UNKNOWN

SEEDS = st.integers(0, 2**32 - 1)


def draw_case(seed, n=20, k=4):
    """(given, belief, transition): labels, some UNKNOWN, and probabilities, none of them 0."""
    rng = np.random.default_rng(seed)
    pred_probs, transition = rng.dirichlet(np.ones(k), n), rng.dirichlet(np.ones(k), k)
    return rng.integers(UNKNOWN, k, n), pred_probs, transition


@arbitrary(SEEDS, st.floats(0, 2))
def test_it_is_the_slow_loop(seed, strength):
    """Each row is belief times the power of the label's evidence, made to sum to 1."""
    noisy, pred_probs, transition = draw_case(seed)
    slow = pred_probs.copy()
    for row, label in enumerate(noisy):
        for true in range(4):
            if label != UNKNOWN:
                slow[row, true] *= transition[true, label] ** strength
        slow[row] /= slow[row].sum()
    np.testing.assert_allclose(posterior(noisy, pred_probs, transition, strength), slow, atol=1e-9)


@arbitrary(SEEDS)
def test_an_unknown_label_leaves_the_belief_unchanged(seed):
    """Without a given label the image alone speaks."""
    noisy, pred_probs, transition = draw_case(seed)
    found = posterior(np.full_like(noisy, UNKNOWN), pred_probs, transition)
    np.testing.assert_allclose(found, pred_probs, rtol=1e-9)


@arbitrary(SEEDS)
def test_strength_zero_leaves_the_belief_unchanged(seed):
    """A given label of strength 0 is not listened to, even when it is certain."""
    noisy, pred_probs, _ = draw_case(seed)
    np.testing.assert_allclose(posterior(noisy, pred_probs, np.eye(4), 0.0), pred_probs, rtol=1e-9)


@arbitrary(SEEDS)
def test_a_label_that_says_nothing_leaves_the_belief_unchanged(seed):
    """When every class gives the same labels, a label is no evidence."""
    noisy, pred_probs, transition = draw_case(seed)
    same = np.tile(transition[:1], (4, 1))
    np.testing.assert_allclose(posterior(noisy, pred_probs, same), pred_probs, rtol=1e-9)


@arbitrary(SEEDS)
def test_without_noise_the_given_label_is_the_class(seed):
    """Through the identity the given label decides."""
    noisy, pred_probs, _ = draw_case(seed)
    known = noisy != UNKNOWN
    found = posterior(noisy[known], pred_probs[known], np.eye(4))
    np.testing.assert_allclose(found, np.eye(4)[noisy[known]], atol=1e-9)


@arbitrary(SEEDS)
def test_permuting_classes_permutes_the_answer(seed):
    """The order of the classes means nothing."""
    noisy, pred_probs, transition = draw_case(seed)
    order = np.random.default_rng(seed).permutation(4)
    place = np.array([*np.argsort(order), UNKNOWN])
    permuted = posterior(place[noisy], pred_probs[:, order], transition[np.ix_(order, order)])
    np.testing.assert_allclose(permuted, posterior(noisy, pred_probs, transition)[:, order], atol=1e-12)


def test_two_certainties_that_contradict_each_other_are_a_doubt():
    """A belief of 0 and a label that cannot be give no NaN, but half and half."""
    found = posterior(np.array([1]), np.array([[1.0, 0.0]]), np.eye(2))
    np.testing.assert_allclose(found, [[0.5, 0.5]])


@pytest.mark.parametrize("wrong", [-2, 4])
def test_a_label_out_of_range_is_named(wrong):
    """The error says which label of which row cannot be."""
    noisy, pred_probs, transition = draw_case(0)
    noisy[7] = wrong
    message = f"noisy[7]: expected a class from 0 to 3, or -1 for unknown, got {wrong}"
    with pytest.raises(LabelError, match=re.escape(message)):
        posterior(noisy, pred_probs, transition)


@arbitrary(SEEDS)
def test_the_strength_found_is_the_best_on_a_grid(seed):
    """No strength of a fine grid makes the trusted labels, and itself, more likely."""
    noisy, pred_probs, transition = draw_case(seed, n=60)
    trusted = np.random.default_rng(seed + 1).integers(UNKNOWN, 4, 60)
    rows = np.flatnonzero((noisy != UNKNOWN) & (trusted != UNKNOWN))

    def loss(strength):
        likely = posterior(noisy[rows], pred_probs[rows], transition, strength)
        unlikely = -np.log(likely[np.arange(len(rows)), trusted[rows]]).mean()
        return unlikely + 0.5 * (strength - 1) ** 2 / len(rows)

    found = fit_strength(pred_probs, log_evidence(noisy, transition), trusted)
    assert loss(found) <= min(map(loss, np.linspace(0, MAX_STRENGTH, 31))) + 1e-3


def test_a_few_pairs_that_agree_do_not_make_given_labels_sure():
    """λ goes up a little where ten of ten agree, and far less with one image than it may."""
    transition = np.full((10, 10), 0.05 / 9)
    np.fill_diagonal(transition, 0.95)
    labels = np.arange(10)
    found = fit_strength(np.full((10, 10), 0.1), log_evidence(labels, transition), labels)
    assert 1 < found < 1.4


def draw_noisy(n, seed=0):
    """(belief, truth, given): truth is drawn from belief, given from truth."""
    rng = np.random.default_rng(seed)
    pred_probs = rng.dirichlet(np.ones(3), n)
    truth = np.minimum((pred_probs.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 2)
    return pred_probs, truth, spoil(truth, symmetric(3, 0.4), seed)


def test_noise_that_depends_on_the_class_alone_has_strength_one():
    """Where the transition tells the whole truth, it is believed."""
    pred_probs, truth, noisy = draw_noisy(20_000)
    assert fit_strength(pred_probs, log_evidence(noisy, symmetric(3, 0.4)), truth) == pytest.approx(
        1, abs=0.1
    )


def test_labels_that_know_less_than_the_transition_says_have_little_strength():
    """Given labels drawn without looking are not believed."""
    pred_probs, truth, noisy = draw_noisy(20_000)
    blind = np.random.default_rng(1).permutation(noisy)
    assert fit_strength(pred_probs, log_evidence(blind, symmetric(3, 0.4)), truth) < 0.05


def test_only_rows_with_both_labels_count():
    """Rows that lack one are left out; without any row the strength is 1."""
    pred_probs, truth, noisy = draw_noisy(300)
    half = np.arange(300) % 2 == 0
    says, of_half = (
        log_evidence(labels, symmetric(3, 0.4)) for labels in (noisy, np.where(half, noisy, UNKNOWN))
    )
    some = fit_strength(pred_probs, says, np.where(half, truth, UNKNOWN))
    assert some == fit_strength(pred_probs[half], says[half], truth[half])
    assert fit_strength(pred_probs, of_half, truth) == some
    assert fit_strength(pred_probs, says, np.full(300, UNKNOWN)) == 1.0
