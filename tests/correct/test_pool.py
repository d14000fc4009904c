import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.special import softmax

from assay.correct.evidence import log_evidence
from assay.correct.posterior import combine, fit_pool
from assay.types import UNKNOWN

K = 4


TRANSITION = np.full((K, K), 0.2) + 0.2 * np.eye(K)


def world(n=6_000, seed=0):
    """True and noisy labels, and two predictions with independent errors."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, n)
    noisy = (rng.random((n, 1)) > TRANSITION[truth].cumsum(axis=1)).sum(axis=1).clip(0, K - 1)
    all_pred_probs = [softmax(1.5 * np.eye(K)[truth] + rng.normal(0, 1, (n, K)), axis=1) for _ in range(2)]
    return truth, noisy, all_pred_probs


def accuracy(pred_probs, truth):
    return (pred_probs.argmax(axis=1) == truth).mean()


def fitted(truth, noisy, all_pred_probs, n=2_000):
    """The pool of the first n images, and its posterior of the others."""
    trusted = np.where(np.arange(len(truth)) < n, truth, UNKNOWN)
    pool = fit_pool(all_pred_probs, log_evidence(noisy, TRANSITION), trusted)
    likely = combine(pool.pred_probs(all_pred_probs), log_evidence(noisy, TRANSITION), pool.strength)
    return pool, likely[n:], truth[n:]


def test_two_predictions_are_better_than_one():
    """Independent errors cancel out, and equally good predictions get equal weights."""
    truth, noisy, all_pred_probs = world()
    pool, likely, rest = fitted(truth, noisy, all_pred_probs)
    alone = [combine(pred_probs, log_evidence(noisy, TRANSITION))[2_000:] for pred_probs in all_pred_probs]
    assert accuracy(likely, rest) > max(accuracy(one, rest) for one in alone) + 0.02
    assert pool.weights[0] == pytest.approx(pool.weights[1], rel=0.2)
    assert pool.strength == pytest.approx(1, abs=0.2)


def test_a_label_that_was_trained_on_counts_once():
    """Where a prediction contains the noisy label's evidence already, λ is small."""
    truth, noisy, all_pred_probs = world()
    pool, _, _ = fitted(truth, noisy, [combine(all_pred_probs[0], log_evidence(noisy, TRANSITION))])
    assert pool.strength < 0.2


def test_without_trusted_labels_nothing_is_fitted():
    """Each prediction counts alike, the noisy label in full."""
    _, noisy, all_pred_probs = world(50)
    pool = fit_pool(all_pred_probs, log_evidence(noisy, TRANSITION), np.full(50, UNKNOWN))
    assert (pool.weights, pool.strength) == ((0.5, 0.5), 1.0)
    assert not pool.bias.any()


def test_thirty_trusted_images_are_nearly_as_good_as_a_thousand():
    """They do not overfit a bias for each class, nor the weights."""
    right = {30: [], 1_000: []}
    for seed in range(20):
        for n, found in right.items():
            _, likely, rest = fitted(*world(3_000, seed), n)
            found.append(accuracy(likely[-2_000:], rest[-2_000:]))
    assert np.mean(right[30]) == pytest.approx(np.mean(right[1_000]), abs=0.009)


@arbitrary(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_rows_are_probabilities(seed, n_pred_probs):
    """Whatever the predictions are, certainty and contradiction included."""
    rng = np.random.default_rng(seed)
    all_pred_probs = [np.eye(K)[rng.integers(0, K, 30)] for _ in range(n_pred_probs)]
    noisy, trusted = rng.integers(-1, K, 30), rng.integers(-1, K, 30)
    pool = fit_pool(all_pred_probs, log_evidence(noisy, TRANSITION), trusted)
    found = pool.pred_probs(all_pred_probs)
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=1), 1)
    assert min(pool.weights) >= 0 <= pool.strength
