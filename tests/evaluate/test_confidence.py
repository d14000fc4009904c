import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from assay.evaluate.metrics import (
    brier,
    expected_calibration_error,
    negative_log_likelihood,
    risk_coverage,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 60)
classes = st.integers(2, 6)


def draw(seed, n, k):
    """True labels and probabilities with some spread, of ``n`` images over ``k`` classes."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), size=n), rng.integers(k, size=n)


def slow_calibration_error(probs, truth, bins):
    """The definition, bin by bin and image by image."""
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(truth)) if b / bins < max(probs[i]) <= (b + 1) / bins]
        if inside:
            confidence = sum(max(probs[i]) for i in inside) / len(inside)
            accuracy = sum(int(np.argmax(probs[i])) == truth[i] for i in inside) / len(inside)
            total += len(inside) / len(truth) * abs(confidence - accuracy)
    return total


@given(seeds, sizes, classes, st.integers(1, 20))
def test_the_calibration_error_is_its_definition(seed, n, k, bins):
    """The fast sum is that of the loop over bins."""
    probs, truth = draw(seed, n, k)
    found = expected_calibration_error(probs, truth, bins)
    assert found == pytest.approx(slow_calibration_error(probs, truth, bins), abs=1e-12)


@pytest.mark.parametrize("hits", range(11, 20))
def test_probabilities_that_come_true_have_no_calibration_error(hits):
    """If images of confidence c are right in a share c of cases, the error is 0."""
    share = hits / 20
    probs = np.tile([share, 1 - share], (20, 1))
    truth = np.array([0] * hits + [1] * (20 - hits))
    assert expected_calibration_error(probs, truth) == pytest.approx(0, abs=1e-12)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    """Of two bins, a confidence of one half lies in the first, so right and wrong do not cancel."""
    probs, truth = np.array([[0.5, 0.5], [0.6, 0.4]]), np.array([0, 1])
    assert expected_calibration_error(probs, truth, bins=2) == pytest.approx((0.5 + 0.6) / 2)


@pytest.mark.parametrize(("truth", "expected"), [(0, 0.0), (1, 1.0)])
def test_certainty_is_all_right_or_all_wrong(truth, expected):
    """Certain answers have error 0 if they are right and 1 if they are wrong."""
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([truth])) == expected


@given(seeds, sizes, classes)
def test_scikit_learn_finds_the_same_likelihood(seed, n, k):
    """The negative log-likelihood is scikit-learn's log loss."""
    probs, truth = draw(seed, n, k)
    probs = (probs + 0.01) / (probs + 0.01).sum(axis=1, keepdims=True)
    expected = log_loss(truth, probs, labels=range(k))
    assert negative_log_likelihood(probs, truth) == pytest.approx(expected)


def test_a_sure_mistake_is_dear_but_finite():
    """A true class of probability 0 counts as 1e-12."""
    probs = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert negative_log_likelihood(probs, np.array([1, 0])) == pytest.approx(-math.log(1e-12) / 2)


@given(seeds, sizes, classes)
def test_the_brier_score_is_its_definition(seed, n, k):
    """It is the squared distance from the one-hot truth, summed over classes, mean over images."""
    probs, truth = draw(seed, n, k)
    expected = np.mean(np.sum((probs - np.eye(k)[truth]) ** 2, axis=1))
    assert brier(probs, truth) == pytest.approx(expected)


@given(classes)
def test_a_uniform_guess_has_the_scores_of_ignorance(k):
    """A uniform guess has likelihood log K and Brier score 1 - 1/K."""
    probs, truth = np.full((k, k), 1 / k), np.arange(k)
    assert negative_log_likelihood(probs, truth) == pytest.approx(math.log(k))
    assert brier(probs, truth) == pytest.approx(1 - 1 / k)
    assert expected_calibration_error(probs, truth) == pytest.approx(0, abs=1e-12)


@given(seeds, sizes, classes)
def test_permuting_classes_changes_no_score(seed, n, k):
    """No score knows the order of the classes."""
    probs, truth = draw(seed, n, k)
    order = np.random.default_rng(seed).permutation(k)
    place = np.argsort(order)
    for score in (expected_calibration_error, negative_log_likelihood, brier):
        assert score(probs[:, order], place[truth]) == pytest.approx(score(probs, truth), abs=1e-12)


@given(seeds, sizes, classes)
def test_single_precision_is_enough(seed, n, k):
    """Probabilities in float32 give the scores of float64."""
    probs, truth = draw(seed, n, k)
    probs = np.maximum(probs, 1e-4)
    for score in (negative_log_likelihood, brier):
        assert score(probs.astype(np.float32), truth) == pytest.approx(score(probs, truth), abs=1e-4)


@given(seeds, sizes, classes)
def test_full_coverage_has_the_whole_risk(seed, n, k):
    """Asked about every image, the risk is the share of mistakes; on the way it lies in [0, 1]."""
    probs, truth = draw(seed, n, k)
    risk = risk_coverage(probs, truth)
    assert risk.shape == (n,)
    assert risk[-1] == pytest.approx(np.mean(probs.argmax(axis=1) != truth))
    assert -1e-12 < risk.min() <= risk.max() < 1 + 1e-12


def test_the_risk_of_the_most_confident_comes_first():
    """The surest image is right, the next wrong, the last two right."""
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    truth = np.array([0, 0, 0, 1])
    assert risk_coverage(probs, truth) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])


@given(seeds, st.permutations(range(6)))
def test_the_order_of_equally_confident_images_does_not_matter(seed, order):
    """Images of one confidence share their mistakes, whatever row they are in."""
    truth = np.random.default_rng(seed).integers(2, size=6)
    probs = np.array([[0.7, 0.3]] * 4 + [[0.9, 0.1]] * 2)
    assert risk_coverage(probs[list(order)], truth[list(order)]) == pytest.approx(risk_coverage(probs, truth))
