"""Noise with a known transition matrix."""

import re

import numpy as np
import pytest

from assay.data.simulate import spoil, symmetric
from assay.errors import UsageError
from assay.types import UNKNOWN


def test_symmetric_noise_spares_no_class():
    """The rate is the share that is wrong, in each class, and goes to all others."""
    assert symmetric(3, 0.5).tolist() == [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]


@pytest.mark.parametrize(
    ("k", "rate", "label", "message"),
    [
        (3, -0.1, 0, "expected a rate in [0, 1], the share of wrong labels, got -0.1"),
        (3, float("nan"), 0, "expected a rate in [0, 1], the share of wrong labels, got nan"),
        (1, 0.5, 0, "expected two classes or more, got 1"),
        (3, 0.5, 3, "expected labels from -1 to 2, got 3"),
        (3, 0.5, -2, "expected labels from -1 to 2, got -2"),
    ],
)
def test_noise_that_is_not_possible_is_refused(k, rate, label, message):
    """The message names what was expected and what was found."""
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        spoil(np.array([0, label]), symmetric(k, rate), seed=0)


def test_the_same_seed_gives_the_same_labels_and_another_does_not():
    """Noise is reproducible, and a draw does not depend on the labels of the other images."""
    true, transition = np.arange(1_000) % 5, symmetric(5, 0.5)
    noisy = spoil(true, transition, seed=7)
    assert (noisy == spoil(true, transition, seed=7)).all()
    assert (noisy != spoil(true, transition, seed=8)).any()
    changed = np.where(np.arange(1_000) < 500, 0, true)
    assert (spoil(changed, transition, seed=7)[500:] == noisy[500:]).all()


def test_unknown_stays_unknown_and_no_noise_changes_nothing():
    """A rate of 0 keeps every label and a matrix of ones beside the diagonal moves every one."""
    true = np.array([UNKNOWN, 0, 1, 2, UNKNOWN])
    assert spoil(true, symmetric(3, 0.0), seed=0).tolist() == true.tolist()
    assert spoil(true, np.roll(np.eye(3), 1, axis=1), seed=0).tolist() == [UNKNOWN, 1, 2, 0, UNKNOWN]
    assert spoil(np.array([], dtype=np.int64), symmetric(3, 0.5), seed=0).size == 0


def test_the_frequencies_are_those_of_the_transition():
    """Within five standard errors; a class with probability 0 does not occur."""
    zeros = np.array([[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 1, 0], [0.1, 0.9, 0, 0]])
    true = np.repeat(np.arange(4), 20_000)
    for transition in (zeros, np.random.default_rng(0).dirichlet(np.ones(4), size=4)):
        noisy = spoil(true, transition, seed=1)
        counts = np.array([np.bincount(noisy[true == k], minlength=4) for k in range(4)])
        error = np.sqrt(transition * (1 - transition) / 20_000)
        assert (np.abs(counts / 20_000 - transition) < 5 * error + 1e-12).all()
        assert not counts[transition == 0].any()
