"""Which noisy labels a prediction agrees with."""

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.notebook.agreement import agreed_labels
from assay.types import UNKNOWN

LABELS = arrays(np.int64, 20, elements=st.integers(UNKNOWN, 3))


def test_trusted_labels_stay_and_noisy_ones_must_agree():
    """Trusted; trusted against given; agreed; not agreed; without any label."""
    noisy = np.array([0, 1, 2, 2, UNKNOWN])
    trusted = np.array([0, 2, UNKNOWN, UNKNOWN, UNKNOWN])
    predicted = np.array([1, 1, 2, 0, 1])
    assert agreed_labels(noisy, trusted, predicted).tolist() == [0, 2, 2, UNKNOWN, UNKNOWN]


@for_all(LABELS, LABELS, arrays(np.int64, 20, elements=st.integers(0, 3)))
def test_no_label_is_made_up(noisy, trusted, predicted):
    """Each label is the trusted one, or the given one that was predicted, or UNKNOWN."""
    found = agreed_labels(noisy, trusted, predicted)
    known = trusted != UNKNOWN
    assert (found[known] == trusted[known]).all()
    rest = found[~known & (found != UNKNOWN)]
    assert (rest == noisy[~known & (found != UNKNOWN)]).all()
    assert (rest == predicted[~known & (found != UNKNOWN)]).all()


def test_a_perfect_prediction_keeps_right_labels_only():
    """Where the prediction is the truth, what is kept is right."""
    rng = np.random.default_rng(0)
    truth, noisy = rng.integers(3, size=100), rng.integers(3, size=100)
    found = agreed_labels(noisy, np.full(100, UNKNOWN), truth)
    assert ((found == truth) == (noisy == truth)).all()


@pytest.mark.usefixtures("without_shape_checks")
def test_lengths_must_be_equal():
    """A missing prediction is named."""
    with pytest.raises(ValueError, match="expected one length for all"):
        agreed_labels(np.zeros(3, int), np.zeros(3, int), np.zeros(2, int))
