import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st

from assay.fix.twins import BLOCK, near_twins


@pytest.fixture
def features():
    """More rows than a block, without twins, in units that differ from feature to feature."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(BLOCK + 20, 32)) * np.logspace(-3, 3, 32) + 5).astype(np.float32)


def slow_twins(features, rows, among, similarity):
    """The loop that defines a twin: the cosine of what is left of two rows when ``among``'s mean is gone."""
    mean, spread = features[among].mean(axis=0), features[among].std(axis=0)
    standard = (features - mean) / spread
    return [
        row
        for row in rows
        if any(
            standard[row] @ standard[other]
            >= similarity * np.linalg.norm(standard[row]) * np.linalg.norm(standard[other])
            for other in among
        )
    ]


@arbitrary(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_it_is_the_slow_loop(seed, similarity):
    """Every pair is compared, by the cosine of standardised features."""
    features = np.random.default_rng(seed).normal(size=(30, 4))
    rows, among = np.arange(10), np.arange(10, 30)
    assert near_twins(features, rows, among, similarity).tolist() == slow_twins(
        features, rows, among, similarity
    )


def test_a_copy_that_was_changed_a_little_is_found(features):
    """Also in the last block; the other rows have no twin, and the order of ``rows`` stays."""
    copy = features[-1] + 0.1 * features.std(axis=0)
    features = np.concatenate([features, [copy]])
    new, among = np.array([len(features) - 1, 3, 2]), np.arange(10, len(features) - 1)
    assert near_twins(features, new, among).tolist() == [len(features) - 1]
    assert near_twins(features.astype(np.float64), new[::-1], among).tolist() == [len(features) - 1]


def test_units_do_not_matter(features):
    """A feature in other units, or a constant one more, changes no pair."""
    twin = np.concatenate([features[:1], features])
    other = np.column_stack([twin * 8, np.full(len(twin), 3.0, np.float32)])
    for found in (twin, other):
        assert near_twins(found, np.array([0, 2]), np.arange(1, 1000, 4)).tolist() == [0]


def test_an_image_like_all_others_is_nobodys_twin():
    """At the mean there is no direction, and no division by zero."""
    features = np.array([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0]])
    assert near_twins(features, np.array([0]), np.array([1, 2])).tolist() == []


@pytest.mark.parametrize(("rows", "among"), [([], [1, 2]), ([1, 2], [])])
def test_without_images_there_are_no_twins(features, rows, among):
    """Nothing to compare, nothing found."""
    found = near_twins(features, np.array(rows, dtype=int), np.array(among, dtype=int))
    assert found.tolist() == []
