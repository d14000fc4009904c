"""Opinions are pooled by what they are worth."""

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from scipy.special import softmax

from assay.correct.posterior import fit_pool, posterior
from assay.types import UNKNOWN

K = 4
TRANSITION = np.full((K, K), 0.2) + 0.2 * np.eye(K)


def world(n=6_000, seed=0):
    """True and given labels, and two beliefs that err apart from each other."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, n)
    noisy = (rng.random((n, 1)) > TRANSITION[truth].cumsum(axis=1)).sum(axis=1).clip(0, K - 1)
    all_pred_probs = [softmax(1.5 * np.eye(K)[truth] + rng.normal(0, 1, (n, K)), axis=1) for _ in range(2)]
    return truth, noisy, all_pred_probs


def accuracy(pred_probs, truth):
    return (pred_probs.argmax(axis=1) == truth).mean()


def fitted(truth, noisy, all_pred_probs, n=2_000):
    """The pool of the first n images, and what it says of the others."""
    trusted = np.where(np.arange(len(truth)) < n, truth, UNKNOWN)
    pool = fit_pool(all_pred_probs, noisy, trusted, TRANSITION)
    likely = posterior(noisy, pool.pred_probs(all_pred_probs), TRANSITION, pool.strength)
    return pool, likely[n:], truth[n:]


def test_two_opinions_are_better_than_one():
    """Errors that are made apart cancel out, and equal opinions weigh alike."""
    truth, noisy, all_pred_probs = world()
    pool, likely, rest = fitted(truth, noisy, all_pred_probs)
    alone = [posterior(noisy, pred_probs, TRANSITION)[2_000:] for pred_probs in all_pred_probs]
    assert accuracy(likely, rest) > max(accuracy(one, rest) for one in alone) + 0.02
    assert pool.weights[0] == pytest.approx(pool.weights[1], rel=0.2)
    assert pool.strength == pytest.approx(1, abs=0.2)


def test_what_says_nothing_counts_for_nothing():
    """An opinion made by chance gets no weight, and takes nothing away."""
    truth, noisy, all_pred_probs = world()
    chance = softmax(np.random.default_rng(1).normal(0, 2, all_pred_probs[0].shape), axis=1)
    pool, likely, rest = fitted(truth, noisy, [all_pred_probs[0], chance])
    assert pool.weights[1] < 0.1
    assert (
        accuracy(likely, rest)
        >= accuracy(posterior(noisy, all_pred_probs[0], TRANSITION)[2_000:], rest) - 0.005
    )


def test_a_label_that_was_learned_counts_once():
    """Where a belief contains the given label's evidence already, λ is small."""
    truth, noisy, all_pred_probs = world()
    pool, _, _ = fitted(truth, noisy, [posterior(noisy, all_pred_probs[0], TRANSITION)])
    assert pool.strength < 0.2


def test_the_probabilities_come_true():
    """On images that the pool was not fitted on, confidence is accuracy."""
    truth, noisy, all_pred_probs = world(20_000)
    _, likely, rest = fitted(
        truth,
        noisy,
        [pred_probs**3 / (pred_probs**3).sum(axis=1, keepdims=True) for pred_probs in all_pred_probs],
    )
    sure = likely.max(axis=1)
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95)):
        some = (sure > low) & (sure <= high)
        right = likely.argmax(axis=1)[some] == rest[some]
        assert right.mean() == pytest.approx(sure[some].mean(), abs=0.035)


def test_without_trusted_labels_nothing_is_fitted():
    """Each opinion counts alike, the given label in full."""
    _, noisy, all_pred_probs = world(50)
    pool = fit_pool(all_pred_probs, noisy, np.full(50, UNKNOWN), TRANSITION)
    assert (pool.weights, pool.strength) == ((0.5, 0.5), 1.0)
    assert not pool.bias.any()


def test_few_trusted_labels_change_little():
    """Five images that agree make nobody sure."""
    truth, noisy, all_pred_probs = world(50)
    trusted = np.where(np.arange(50) < 5, truth, UNKNOWN)
    pool = fit_pool(all_pred_probs, noisy, trusted, TRANSITION)
    assert np.abs(pool.bias).max() < 0.2
    assert max(pool.weights) < 1


def test_thirty_judges_are_nearly_as_good_as_a_thousand():
    """What they cannot know they do not decide: neither a bias for each class nor a weight by chance."""
    right = {30: [], 1_000: []}
    for seed in range(20):
        for n, found in right.items():
            _, likely, rest = fitted(*world(3_000, seed), n)
            found.append(accuracy(likely[-2_000:], rest[-2_000:]))
    assert np.mean(right[30]) == pytest.approx(np.mean(right[1_000]), abs=0.009)


@drawn(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_rows_are_probabilities(seed, n_pred_probs):
    """Whatever the opinions are, certainty and contradiction included."""
    rng = np.random.default_rng(seed)
    all_pred_probs = [np.eye(K)[rng.integers(0, K, 30)] for _ in range(n_pred_probs)]
    noisy, trusted = rng.integers(-1, K, 30), rng.integers(-1, K, 30)
    pool = fit_pool(all_pred_probs, noisy, trusted, TRANSITION)
    found = pool.pred_probs(all_pred_probs)
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=1), 1)
    assert min(pool.weights) >= 0 <= pool.strength
