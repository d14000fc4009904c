"""No trusted label tells itself, however few there are of a class."""

import numpy as np
import pytest

from assay.correct.posterior import Weighed, transition_from, weigh
from assay.noise import estimate_noise
from assay.types import UNKNOWN

N, K, TRUSTED = 6_000, 60, 300
FOLDS = 5


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(truth, given, trusted, raw): each class is mistaken for three others, two labels of five."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, N)
    others = np.array([rng.choice(np.delete(np.arange(K), k), 3, replace=False) for k in range(K)])
    wrong = others[truth, rng.integers(0, 3, N)]
    noisy = np.where(rng.random(N) < 0.4, wrong, truth)
    scores = rng.normal(size=(N, K)) + 2.5 * np.eye(K)[truth]
    raw = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return truth, noisy, np.where(np.arange(N) < TRUSTED, truth, UNKNOWN), raw


def weighed(noisy: np.ndarray, trusted: np.ndarray, raw: np.ndarray) -> Weighed:
    transition = estimate_noise(noisy, trusted, K).transition
    return weigh(raw, noisy, trusted, np.arange(N) % FOLDS, transition)


def test_the_share_of_right_labels_is_that_of_other_images():
    """Where five pairs of a class are known, an own pair in the transition would know the answer."""
    shares = []
    for seed in range(4):
        truth, noisy, trusted, raw = draw(seed)
        found = weighed(noisy, trusted, raw)
        right = found.posterior.argmax(axis=1) == truth
        shares.append([right[:TRUSTED].mean(), right[TRUSTED:].mean()])
        assert 0.5 < found.strength < 1.3
    claimed, true = np.mean(shares, axis=0)
    assert claimed == pytest.approx(true, abs=0.04)  # 1,200 images: a standard error of 1.4 points


def test_another_label_of_an_image_changes_nothing_of_itself(monkeypatch):
    """Neither its belief nor its posterior, but those of others; λ is held, which all move by a hair."""
    monkeypatch.setattr("assay.correct.posterior.fit_strength", lambda *_: 1.0)
    _, noisy, trusted, raw = draw(0)
    before, row = weighed(noisy, trusted, raw), 7
    trusted[row] = (trusted[row] + 1) % K
    after = weighed(noisy, trusted, raw)
    np.testing.assert_allclose(after.pred_probs[row], before.pred_probs[row], atol=1e-9)
    np.testing.assert_allclose(after.posterior[row], before.posterior[row], atol=1e-9)
    assert np.abs(after.posterior - before.posterior).max() > 1e-4


def test_without_pairs_the_other_transition_stays():
    """A fold whose others have no pair is weighed by what all images say."""
    unknown = np.full(4, UNKNOWN)
    assert (transition_from(unknown, np.zeros(4, np.int64), np.eye(2), 0) == np.eye(2)).all()
