"""Noise with a known transition matrix."""

import re

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.simulate import class_dependent, pair_flip, spoil, symmetric
from assay.errors import UsageError
from assay.types import UNKNOWN


@given_examples(st.integers(2, 12), st.floats(0, 1))
def test_every_transition_is_a_distribution_with_the_rate_asked_for(k, rate):
    """Rows sum to 1 and the share that is wrong is the rate, in each class."""
    for transition in (symmetric(k, rate), pair_flip(k, rate)):
        assert transition.sum(axis=1) == pytest.approx(np.ones(k))
        assert 1 - np.diag(transition) == pytest.approx(np.full(k, rate))
        assert (transition >= 0).all()


def test_the_shape_of_the_noise():
    """Symmetric noise spares no class; a pair flip hits the next one; a matrix of one's own is scaled."""
    assert symmetric(3, 0.5).tolist() == [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    assert pair_flip(3, 0.25).tolist() == [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]]

    matrix = np.array([[0.7, 0.3 + 1e-9], [0.5, 0.5]])
    before = matrix.copy()
    assert class_dependent(matrix).sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-15)
    assert (matrix == before).all()


def matrix(rows):
    return class_dependent(np.array(rows, dtype=np.float64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: matrix([[0.5, 0.5]]),
            "expected a square transition of two classes or more, got shape (1, 2)",
        ),
        (lambda: matrix([[1.0, 0], [1.5, -0.5]]), "expected probabilities in [0, 1], got 1.5 at [1, 0]"),
        (lambda: matrix([[1, 0], [np.nan, 1]]), "expected probabilities in [0, 1], got nan at [1, 0]"),
        (lambda: matrix([[1, 0], [0.5, 0.4]]), "expected rows that sum to 1, got 0.9 in row 1; rows are the"),
        (lambda: symmetric(3, -0.1), "expected a rate in [0, 1], the share of wrong labels, got -0.1"),
        (lambda: pair_flip(3, float("nan")), "expected a rate in [0, 1], the share of wrong labels, got nan"),
        (lambda: symmetric(1, 0.5), "expected two classes or more, got 1"),
        (lambda: spoil(np.array([0, 3]), symmetric(3, 0.5), seed=0), "expected labels from -1 to 2, got 3"),
        (lambda: spoil(np.array([0, -2]), symmetric(3, 0.5), seed=0), "expected labels from -1 to 2, got -2"),
    ],
)
def test_noise_that_is_not_possible_is_refused(call, message):
    """The message names the place and what was found there."""
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        call()


def test_the_same_seed_gives_the_same_labels_and_another_does_not():
    """Noise is reproducible, and a draw does not depend on the labels of the other images."""
    true, transition = np.arange(1_000) % 5, symmetric(5, 0.5)
    noisy = spoil(true, transition, seed=7)
    assert (noisy == spoil(true, transition, seed=7)).all()
    assert (noisy != spoil(true, transition, seed=8)).any()
    changed = true.copy()
    changed[:500] = 0
    assert (spoil(changed, transition, seed=7)[500:] == noisy[500:]).all()


def test_unknown_stays_unknown_and_no_noise_changes_nothing():
    """A rate of 0 keeps every label and a flip of 1 moves every one."""
    true = np.array([UNKNOWN, 0, 1, 2, UNKNOWN])
    assert spoil(true, symmetric(3, 0.0), seed=0).tolist() == true.tolist()
    assert spoil(true, pair_flip(3, 1.0), seed=0).tolist() == [UNKNOWN, 1, 2, 0, UNKNOWN]
    assert spoil(np.array([], dtype=np.int64), symmetric(3, 0.5), seed=0).size == 0


def test_the_frequencies_are_those_of_the_transition():
    """Within five standard errors; a class with probability 0 does not occur."""
    zeros = np.array([[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 1, 0], [0.1, 0.9, 0, 0]])
    for transition in (zeros, np.random.default_rng(0).dirichlet(np.ones(4), size=4)):
        true = np.repeat(np.arange(4), 20_000)
        noisy = spoil(true, class_dependent(transition), seed=1)
        counts = np.array([np.bincount(noisy[true == k], minlength=4) for k in range(4)])
        error = np.sqrt(transition * (1 - transition) / 20_000)
        assert (np.abs(counts / 20_000 - transition) < 5 * error + 1e-12).all()
        assert not counts[transition == 0].any()
