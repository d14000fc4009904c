"""What becomes of labels that are all right, and of labels that are all wrong in one way."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from assay.data.simulate import spoil, symmetric
from assay.types import UNKNOWN


@pytest.fixture(scope="module")
def digits():
    """Features, true classes, and trusted labels for a fifth of the rows."""
    X, truth = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).random(len(X)) < 0.2
    return X / 16, truth.astype(np.int64), np.where(chosen, truth, UNKNOWN).astype(np.int64)


def false_alarm_rate(corrected):
    """Share of right given labels that would be changed, as the trusted rows, unseen, tell."""
    checked = (corrected.trusted != UNKNOWN) & (corrected.noisy == corrected.trusted)
    likely = corrected.posterior[checked]
    changed = (likely.max(axis=1) >= corrected.threshold) & (
        likely.argmax(axis=1) != corrected.noisy[checked]
    )
    return changed.mean()


def test_labels_without_noise_are_left_alone(digits, fix_all):
    """Of right labels hardly any is changed: no more than the trusted rows let expect, and a chance error."""
    X, truth, trusted = digits
    corrected = fix_all(X, truth, trusted, 10)
    rest = trusted == UNKNOWN
    changed = np.mean(corrected.actions[rest] == "changed")
    assert changed <= false_alarm_rate(corrected) + 0.005
    assert np.mean(corrected.corrected[rest] != truth[rest]) < 0.005


def test_two_classes_that_were_swapped_are_swapped_back(digits, fix_all):
    """Every 3 is called 8 and every 8 is called 3: all of them are corrected."""
    X, truth, trusted = digits
    swap = np.arange(10)
    swap[[3, 8]] = [8, 3]
    corrected = fix_all(X, swap[truth], trusted, 10)
    swapped = np.isin(truth, (3, 8)) & (trusted == UNKNOWN)
    assert np.mean(corrected.corrected[swapped] == truth[swapped]) > 0.98
    assert set(corrected.actions[swapped]) <= {"changed", "unsure"}


def test_a_class_whose_labels_are_all_wrong_is_recovered(digits, fix_all):
    """No 4 is called 4, its labels are spread over the others: most come back."""
    X, truth, trusted = digits
    transition = np.eye(10)
    transition[4] = np.where(np.arange(10) == 4, 0, 1 / 9)
    corrected = fix_all(X, spoil(truth, transition, seed=1), trusted, 10)
    lost = (truth == 4) & (trusted == UNKNOWN)
    assert np.mean(corrected.corrected[lost] == 4) > 0.8


def test_half_wrong_labels_are_mostly_fixed(digits, fix_all):
    """Of labels that are wrong six times in ten, nine of ten come out right, and the posterior is honest."""
    X, truth, trusted = digits
    corrected = fix_all(X, spoil(truth, symmetric(10, 0.6), seed=1), trusted, 10)
    rest = trusted == UNKNOWN
    right = corrected.corrected[rest] == truth[rest]
    assert right.mean() > 0.9
    assert corrected.confidence[rest].mean() == pytest.approx(right.mean(), abs=0.03)
