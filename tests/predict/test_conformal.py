"""Prediction sets hold the true class as often as was asked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UsageError
from assay.predict.batch import COVERAGES, conformal_thresholds, prediction_sets, threshold_for


def drawn(n, seed, k=4):
    """Probabilities, and classes that are drawn from others: the model is wrong about how sure it is."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(k, 0.4), n)
    softer = probs**0.5 / (probs**0.5).sum(axis=1, keepdims=True)
    return probs, np.array([generator.choice(k, p=row) for row in softer])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_new_images_are_covered_as_often_as_was_asked(coverage):
    """In the mean over many calibrations, at least that share and hardly more."""
    shares = []
    for seed in range(40):
        probs, truth = drawn(400, seed)
        least = threshold_for(coverage, conformal_thresholds(probs[:200], truth[:200]))
        sets = prediction_sets(probs[200:], least)
        shares.append(sets[np.arange(200), truth[200:]].mean())
    assert coverage - 0.01 < np.mean(shares) < coverage + 0.03


@given(st.integers(1, 60), st.integers(0, 5))
def test_thresholds_are_order_statistics(n, seed):
    """The threshold is what the true class had in the image of that rank; too high a coverage has none."""
    probs, truth = drawn(n, seed)
    found = conformal_thresholds(probs, truth)
    for coverage in COVERAGES:
        rank = math.ceil((n + 1) * coverage)
        if rank > n:
            assert f"{coverage:g}" not in found
            continue
        least = found[f"{coverage:g}"]
        of_true = probs[np.arange(n), truth]
        assert (of_true >= least).sum() >= rank
        assert (of_true > least).sum() < rank
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_set_holds_the_likeliest_class_and_all_that_are_probable_enough():
    """Even where none is probable enough."""
    probs = np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33]])
    assert prediction_sets(probs, 0.3).tolist() == [[True, True, False], [True, True, True]]
    assert prediction_sets(probs, 0.6).tolist() == [[True, False, False], [True, False, False]]


def test_the_next_larger_coverage_is_taken():
    """A share that is not kept has the threshold of the next; what is beyond all, or nothing, is refused."""
    kept = {"0.9": 0.2, "0.95": 0.1}
    assert [threshold_for(share, kept) for share in (0.5, 0.9, 0.91, 0.95)] == [0.2, 0.2, 0.1, 0.1]
    for share in (0.96, 1.0, 0.0, -1.0):
        with pytest.raises(UsageError, match=r"--coverage: expected more than 0 and at most 0\.95, .* got"):
            threshold_for(share, kept)
    with pytest.raises(UsageError, match="expected a model with thresholds"):
        threshold_for(0.9, {})
