"""Classes that are taken for each other."""

import numpy as np
import pytest
from scipy.stats import binom

from assay.correct.class_pairs import LEVEL, ClassPair, confused_labels, look_alikes, votes


def test_even_noise_is_nothing_unusual():
    """Where wrong labels fall on all classes alike, no pair is called unusual."""
    generator = np.random.default_rng(0)
    trusted = generator.integers(6, size=6000)
    noisy = np.where(generator.random(6000) < 0.4, generator.integers(6, size=6000), trusted)
    pairs = confused_labels(noisy, trusted, 6)
    assert len(pairs) == 15
    assert not any(pair.is_unusual for pair in pairs)
    assert pairs[0].share >= pairs[-1].share


def test_a_confused_pair_comes_first():
    """Both ways together, in the share of the images of both classes; unknown labels are left out."""
    trusted = np.array([0] * 100 + [1] * 100 + [2] * 100 + [-1, 2])
    noisy = trusted.copy()
    noisy[:30], noisy[100:110], noisy[-2:] = 1, 0, [0, -1]
    first, *others = confused_labels(noisy, trusted, 3)
    assert first == ClassPair(0, 1, 0.2, 0.1, True)
    assert [pair.share for pair in others] == [0, 0]


def test_neighbours_vote():
    """A belief is the share of the neighbours of each class; without labelled ones it is even."""
    labels = np.array([0, 1, 1, -1])
    nearest = np.array([[1, 2], [0, 2], [3, 0], [3, 3]])
    np.testing.assert_allclose(votes(labels, nearest, 2), [[0, 1], [0.5, 0.5], [1, 0], [0.5, 0.5]])


def test_classes_that_look_alike_are_found():
    """From the belief in images of one class that goes to the other."""
    labels = np.arange(4000) % 4
    pred_probs = 0.8 * np.eye(4)[labels] + 0.05
    pred_probs[labels == 2] = [0.02, 0.02, 0.66, 0.3]
    first, *_ = look_alikes(labels, pred_probs)
    assert (first.one, first.other, first.is_unusual) == (2, 3, True)
    assert first.share == pytest.approx((0.3 + 0.05) / 2, abs=0.01)


def test_a_class_without_images_is_in_no_pair():
    """There is nothing to take for anything."""
    pairs = confused_labels(np.array([0, 0]), np.array([0, 0]), 3)
    assert [(pair.one, pair.other, pair.share) for pair in pairs] == [(0, 1, 0), (0, 2, 0)]
    assert confused_labels(np.zeros(0, int), np.zeros(0, int), 1) == ()


def test_pairs_are_those_of_each_count():
    """Each pair as by itself, whatever the number of classes; of one class there is none."""
    counts = np.random.default_rng(0).integers(0, 9, (12, 12)) * (
        np.random.default_rng(1).random((12, 12)) < 0.5
    )
    trusted, noisy = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
    found = {(pair.one, pair.other): pair for pair in confused_labels(noisy, trusted, 12)}
    totals, wrong = counts.sum(axis=1), counts.sum(axis=1) - np.diag(counts)
    for (one, other), pair in found.items():
        n, taken = totals[one] + totals[other], counts[one, other] + counts[other, one]
        chance = (wrong[one] + wrong[other]) / 11 / n
        unusual = taken > n * chance and binom.sf(taken - 1, n, chance) < LEVEL / 66
        assert pair == ClassPair(one, other, taken / n, chance, bool(unusual))
    assert len(found) == 66
    assert confused_labels(np.zeros(3, dtype=int), np.zeros(3, dtype=int), 1) == ()
