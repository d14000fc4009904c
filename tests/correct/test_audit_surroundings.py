"""Standardised features, neighbours and spacing, against the loops that define them."""

import numpy as np
import pytest

from assay.correct import near_duplicates as module
from assay.correct.near_duplicates import distance, local_density, standardise, unit_rows


@pytest.fixture
def features():
    """900 images in units that differ from feature to feature."""
    generator = np.random.default_rng(0)
    return (generator.normal(size=(900, 12)) * np.logspace(-3, 2, 12) + 5).astype(np.float32)


def test_features_have_mean_0_and_variance_1(features):
    """In each feature; one that is constant is 0, and half precision will do."""
    found = standardise([np.column_stack([features, np.full(900, 7.0)]).astype(np.float16)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found[:, :12].std(axis=0)[4:], 1, atol=1e-3)
    assert not found[:, 12].any()
    tenth = np.column_stack([features, np.full(900, 0.1, np.float32)])  # which has no exact mean
    assert not standardise([tenth])[:, 12].any()


def test_a_mirrored_image_has_the_same_features(features):
    """The views may change places."""
    np.testing.assert_allclose(
        standardise([features, features[::-1]]), standardise([features[::-1], features]), atol=1e-5
    )


def test_neighbours_are_those_of_the_slow_loop(features):
    """With all images in the sample: the 20 nearest in order, an image itself not among them."""
    directions = unit_rows(standardise([features]))
    cosine = directions @ directions.T
    np.fill_diagonal(cosine, -2)
    found = local_density(standardise([features]))
    np.testing.assert_array_equal(found.nearest[:, :5], np.argsort(-cosine, axis=1)[:, :5])
    np.testing.assert_allclose(found.spacing, distance(-np.sort(-cosine, axis=1)[:, 19]), atol=1e-3)


def test_a_sample_gives_about_the_same_spacing(features, monkeypatch):
    """A sixth of the images says of each how close others come."""
    whole = local_density(standardise([features])).spacing
    monkeypatch.setattr(module, "SAMPLE", 150)
    monkeypatch.setattr(module, "BLOCK", 100)
    sampled = local_density(standardise([features]), seed=3)
    assert sampled.spacing.mean() == pytest.approx(whole.mean(), rel=0.1)
    assert len(np.unique(sampled.nearest)) == 150
    assert not (sampled.nearest == np.arange(900)[:, None]).any()


def test_two_images_have_each_other():
    """The smallest set that has neighbours."""
    found = local_density(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    assert found.nearest.tolist() == [[1], [0]]
    assert found.spacing == pytest.approx(np.sqrt(2), abs=1e-6)


@pytest.mark.parametrize("d", [4, 10, 25])
def test_the_dimension_is_that_of_the_images(d):
    """Of images that vary in d ways, whatever the number of their features."""
    generator = np.random.default_rng(d)
    features = generator.normal(size=(2000, d)) @ generator.normal(size=(d, 60))
    found = local_density(standardise([features.astype(np.float32)])).dimension
    # On a sphere one way is lost; with few images a high dimension looks lower.
    assert 0.6 * d < found < 1.1 * d


@pytest.mark.parametrize("features", [np.eye(5, dtype=np.float32), np.ones((40, 3), np.float32)])
def test_the_dimension_of_too_few_images_or_of_equal_ones_is_not_known(features):
    """No number is made up."""
    assert local_density(unit_rows(features)).dimension == np.inf
