"""A second look at images that a model is unsure of."""

import numpy as np
import pytest
from scipy.special import softmax

from assay.correct.posterior import NO_FLOOR, Calibration
from assay.predict.flip_tta import flip_tta

GENERATOR = np.random.default_rng(0)
FIRST, MIRRORS = softmax(GENERATOR.normal(0, 2, (2, 50, 4)), axis=2)


def never(rows):
    """No mirror is asked about."""
    raise AssertionError(f"asked about {rows}")


@pytest.mark.parametrize("below", [0.0, 0.5, 0.9, 1.0])
def test_only_what_is_unsure_is_looked_at_again(below):
    """Its mirror is asked about once, and both looks count the same; what is sure stays to the bit."""
    asked, before = [], FIRST.copy()
    found = flip_tta(FIRST, lambda rows: asked.append(rows) or MIRRORS[rows], below)
    unsure = FIRST.max(axis=1) < below
    assert [rows.tolist() for rows in asked] == ([np.flatnonzero(unsure).tolist()] if unsure.any() else [])
    assert (found[~unsure] == FIRST[~unsure]).all()
    both = np.sqrt(FIRST * MIRRORS)
    assert found[unsure] == pytest.approx((both / both.sum(axis=1, keepdims=True))[unsure])
    assert (before == FIRST).all()


@pytest.mark.parametrize("below", [0.0, 0.9])
def test_where_all_is_sure_nothing_is_asked(below):
    """Nor where there are no images."""
    sure = np.array([[0.95, 0.05], [0.1, 0.9]])
    assert flip_tta(sure, never, below) is sure
    assert flip_tta(sure[:0], never, below).shape == (0, 2)


def test_an_image_and_its_mirror_get_the_same_answer():
    """Where both are looked at twice."""
    one, other = (
        flip_tta(FIRST, lambda rows: MIRRORS[rows], 1.0),
        flip_tta(MIRRORS, lambda rows: FIRST[rows], 1.0),
    )
    assert one == pytest.approx(other)


def test_looks_may_be_calibrated_before_or_after():
    """One sharpness and a bias for each class: the mean of logarithms lets both pass."""
    change = Calibration(1.7, np.array([0.3, -0.2, 0.1, -0.2]), NO_FLOOR)
    before = flip_tta(change.apply(FIRST), lambda rows: change.apply(MIRRORS[rows]), 1.0)
    assert before == pytest.approx(change.apply(flip_tta(FIRST, lambda rows: MIRRORS[rows], 1.0)))


def test_looks_that_exclude_each_other_leave_probabilities():
    """A probability of 0, as float32 rounds it, is one that is tiny: no NaN comes of it."""
    first, mirror = (np.array([row], np.float32) for row in ([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]))
    found = flip_tta(first, lambda rows: mirror[rows], 0.9)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.full((1, 4), 0.25), abs=1e-6)
