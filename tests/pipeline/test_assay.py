"""Our own recipe on frozen features."""

import numpy as np
import pytest

from assay.data.simulate import spoil, symmetric
from assay.data.split import folds
from assay.embed.images import Features
from assay.pipeline.learn import Labelled, learn, noisy_only
from assay.types import UNKNOWN


@pytest.fixture(scope="module")
def labelled() -> tuple[Labelled, np.ndarray]:
    """300 points in three clouds and two views, four of ten labels wrong, 90 trusted, 30 without a fold."""
    generator = np.random.default_rng(0)
    truth = np.arange(300) % 3
    centres = generator.normal(0, 2, (3, 8))
    views = tuple((centres[truth] + generator.normal(0, 1, (300, 8))).astype(np.float32) for _ in range(2))
    trusted = np.where(np.arange(300) < 90, truth, UNKNOWN)
    fold_of = np.full(300, UNKNOWN)
    fold_of[:270] = folds(trusted[:270], 5, 0)
    usable = np.ones(300, dtype=bool)
    noisy = spoil(truth, symmetric(3, 0.4), 0)
    features = Features(views, (None,) * 300, {}, {}, 0)
    data = Labelled(features, noisy, trusted, usable, fold_of, ("a", "b", "c"), 0, 0.8)
    return data, truth


@pytest.fixture(scope="module")
def learned(labelled):
    from small_runs import quick_learning

    with quick_learning():
        return learn(labelled[0])


def test_wrong_labels_are_mended(labelled, learned):
    """Most labels are right after, few were before; every row has a posterior that sums to 1."""
    data, truth = labelled
    open_rows = data.trusted == UNKNOWN
    assert (data.noisy == truth)[open_rows].mean() < 0.7
    assert (learned.corrected.corrected == truth)[open_rows].mean() > 0.9
    assert learned.corrected.posterior.sum(axis=1) == pytest.approx(1)


def test_what_has_no_fold_is_labelled_too(labelled, learned):
    """The held-out rows are scored by classifiers that never saw them."""
    data, truth = labelled
    outside = data.fold_of == UNKNOWN
    assert (learned.corrected.corrected == truth)[outside].mean() > 0.9
    assert (learned.head.probabilities(data.features.views[0]).argmax(axis=1) == truth)[outside].mean() > 0.9


def test_the_saved_head_is_calibrated(labelled, learned):
    """The mean confidence out of fold is close to the accuracy on trusted rows."""
    data, truth = labelled
    known = data.trusted != UNKNOWN
    probs = learned.unseen[known]
    hits = (probs.argmax(axis=1) == truth[known]).mean()
    assert probs.max(axis=1).mean() == pytest.approx(hits, abs=0.1)


def test_the_same_seed_gives_the_same_head(labelled, learned):
    """Learning twice gives the same numbers, also with two heads at a time."""
    from dataclasses import replace

    for workers in (1, 2):
        again = learn(replace(labelled[0], workers=workers))
        assert (again.corrected.posterior == learned.corrected.posterior).all()
        assert all((a == b).all() for a, b in zip(again.head.weights, learned.head.weights, strict=True))


def test_trusting_noisy_labels_uses_no_others(labelled):
    """The head for comparison learns from the given labels alone, in all views."""
    data, truth = labelled
    head = noisy_only(data.features.views, data.noisy, 3, 0)
    predicted = head.probabilities(data.features.views[0]).argmax(axis=1)
    assert (predicted == truth).mean() > 0.5
