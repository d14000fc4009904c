import re

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st

from assay.correct.evidence import NoisyLabels, log_evidence
from assay.correct.posterior import (
    BLIND_STRENGTH,
    MAX_STRENGTH,
    STRENGTH_PRIOR,
    combine,
    fit_strength,
    weigh,
)
from assay.data.simulate import spoil, symmetric
from assay.errors import LabelError
from assay.types import UNKNOWN

SEEDS = st.integers(0, 2**32 - 1)
N, K, TRUSTED = 6_000, 60, 300


def posterior(noisy, pred_probs, transition, strength=1.0):
    return combine(pred_probs, log_evidence(noisy, transition), strength)


def draw_case(seed, n=20, k=4):
    """(noisy, pred_probs, transition): labels, some UNKNOWN, and probabilities, none of them 0."""
    rng = np.random.default_rng(seed)
    pred_probs, transition = rng.dirichlet(np.ones(k), n), rng.dirichlet(np.ones(k), k)
    return rng.integers(UNKNOWN, k, n), pred_probs, transition


@arbitrary(SEEDS, st.floats(0, 2))
def test_it_is_the_slow_loop(seed, strength):
    """Each row is prediction times the power of the label's evidence, made to sum to 1."""
    noisy, pred_probs, transition = draw_case(seed)
    slow = pred_probs.copy()
    for row, label in enumerate(noisy):
        for true in range(4):
            if label != UNKNOWN:
                slow[row, true] *= transition[true, label] ** strength
        slow[row] /= slow[row].sum()
    np.testing.assert_allclose(posterior(noisy, pred_probs, transition, strength), slow, atol=1e-9)


@arbitrary(SEEDS)
def test_a_label_without_evidence_leaves_the_prediction_unchanged(seed):
    """No label, a strength of 0, or classes that all give the same labels."""
    noisy, pred_probs, transition = draw_case(seed)
    for found in (
        posterior(np.full_like(noisy, UNKNOWN), pred_probs, transition),
        posterior(noisy, pred_probs, np.eye(4), 0.0),
        posterior(noisy, pred_probs, np.tile(transition[:1], (4, 1))),
    ):
        np.testing.assert_allclose(found, pred_probs, rtol=1e-9)


@arbitrary(SEEDS)
def test_without_noise_the_noisy_label_is_the_class(seed):
    """Through the identity the noisy label decides."""
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
    """A prediction of 0 and an impossible label give no NaN, but half and half."""
    found = posterior(np.array([1]), np.array([[1.0, 0.0]]), np.eye(2))
    np.testing.assert_allclose(found, [[0.5, 0.5]])


@pytest.mark.parametrize("wrong", [-2, 4])
def test_a_label_out_of_range_is_named(wrong):
    """The error has the row and the label."""
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
        return unlikely + STRENGTH_PRIOR * (strength - BLIND_STRENGTH) ** 2 / len(rows)

    found = fit_strength(pred_probs, log_evidence(noisy, transition), trusted)
    assert loss(found) <= min(map(loss, np.linspace(0, MAX_STRENGTH, 31))) + 1e-3


def draw_noisy(n, seed=0):
    """(pred_probs, truth, noisy): truth is drawn from pred_probs, noisy from truth."""
    rng = np.random.default_rng(seed)
    pred_probs = rng.dirichlet(np.ones(3), n)
    truth = np.minimum((pred_probs.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 2)
    return pred_probs, truth, spoil(truth, symmetric(3, 0.4), seed)


def test_noise_that_depends_on_the_class_alone_has_strength_one():
    """Where the transition is the whole truth, it counts in full; labels drawn at random hardly count."""
    transition = symmetric(3, 0.4)
    pred_probs, truth, noisy = draw_noisy(20_000)
    found = fit_strength(pred_probs, log_evidence(noisy, transition), truth)
    assert found == pytest.approx(1, abs=0.1)
    blind = np.random.default_rng(1).permutation(noisy)
    assert fit_strength(pred_probs, log_evidence(blind, transition), truth) < 0.05


def draw(seed):
    """(truth, noisy, trusted, raw): each class is mistaken for three others, two labels of five."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, N)
    others = np.array([rng.choice(np.delete(np.arange(K), k), 3, replace=False) for k in range(K)])
    wrong = others[truth, rng.integers(0, 3, N)]
    noisy = np.where(rng.random(N) < 0.4, wrong, truth)
    scores = rng.normal(size=(N, K)) + 2.5 * np.eye(K)[truth]
    raw = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return truth, noisy, np.where(np.arange(N) < TRUSTED, truth, UNKNOWN), raw


def weighed(noisy, trusted, raw):
    return weigh(raw, trusted, np.arange(N) % 5, NoisyLabels(noisy))


def test_the_share_of_right_labels_is_that_of_other_images():
    """With five pairs of a class, a transition that counts the own pair would leak the answer."""
    shares = []
    for seed in range(4):
        truth, noisy, trusted, raw = draw(seed)
        found = weighed(noisy, trusted, raw)
        right = found.posterior.argmax(axis=1) == truth
        shares.append([right[:TRUSTED].mean(), right[TRUSTED:].mean()])
    claimed, true = np.mean(shares, axis=0)
    assert claimed == pytest.approx(true, abs=0.04)  # 1,200 images: a standard error of 1.4 points


def test_another_trusted_label_does_not_change_its_own_posterior(monkeypatch):
    """It changes those of others; λ, which all share, is held."""
    monkeypatch.setattr("assay.correct.posterior.fit_strength", lambda *_: 1.0)
    _, noisy, trusted, raw = draw(0)
    before, row = weighed(noisy, trusted, raw), 7
    trusted[row] = (trusted[row] + 1) % K
    after = weighed(noisy, trusted, raw)
    np.testing.assert_allclose(after.pred_probs[row], before.pred_probs[row], atol=1e-9)
    np.testing.assert_allclose(after.posterior[row], before.posterior[row], atol=1e-9)
    assert np.abs(after.posterior - before.posterior).max() > 1e-4


def test_a_few_pairs_move_the_strength_a_little():
    """λ goes up a little where ten of ten agree, and without pairs it is a guess."""
    transition = np.full((10, 10), 0.05 / 9)
    np.fill_diagonal(transition, 0.95)
    labels, even = np.arange(10), np.full((10, 10), 0.1)
    assert 0.3 < fit_strength(even, log_evidence(labels, transition), labels) < 1
    assert fit_strength(even, log_evidence(labels, transition), np.full(10, UNKNOWN)) == BLIND_STRENGTH


def test_without_trusted_labels_the_posterior_is_better_than_the_predictions():
    """The temperature comes from the noisy labels, their transition from where they disagree."""
    truth, noisy, _, raw = draw(0)
    found = weigh(raw, np.full(N, UNKNOWN), np.arange(N) % 5, NoisyLabels(noisy))
    right = [(probs.argmax(axis=1) == truth).mean() for probs in (raw, found.pred_probs, found.posterior)]
    assert right[2] > max(right[:2]) + 0.01


def test_labels_of_the_holdout_change_only_their_own_posterior():
    """What they are does not matter to any other image."""
    _, noisy, trusted, raw = draw(0)
    fitted, held = np.arange(N) < N - 500, noisy.copy()
    held[N - 500 :] = 0
    fold_of = np.where(fitted, np.arange(N) % 5, UNKNOWN)
    one, other = (weigh(raw, trusted, fold_of, NoisyLabels(labels, fitted)) for labels in (noisy, held))
    changed = (one.posterior != other.posterior).any(axis=1)
    assert changed[N - 500 :].any()
    assert not changed[: N - 500].any()
