"""Groups of near-duplicates, in crowded places and in empty ones; the fast parts against their slow loops."""

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st

from assay.correct import near_duplicates as module
from assay.correct.near_duplicates import (
    close_pairs,
    distance,
    find_near_duplicates,
    local_density,
    spanning_forest,
    standardise,
    unit_rows,
)


def look(features, contents=None):
    """The groups of ``features``, by rows."""
    around = local_density(standardise([features.astype(np.float32)]))
    unknown = [None] * len(features)
    return find_near_duplicates(around.directions, contents or unknown, around.spacing, around.dimension)


def draw(n=600, d=40, seed=0):
    """Different pictures."""
    return np.random.default_rng(seed).normal(size=(n, d))


def test_a_picture_that_was_changed_a_little_is_found():
    """A re-saved picture is a near-duplicate, with its similarity; different pictures are none."""
    features = draw()
    assert look(features) == ()
    assert look(np.zeros((30, 5)))[0].rows == tuple(range(30))
    features[7] = features[500] + 0.1 * np.random.default_rng(1).normal(size=40)
    (group,) = look(features)
    assert (group.rows, group.is_exact) == ((7, 500), False)
    assert 0.98 < group.similarity < 1


def test_equal_bytes_are_exact_duplicates():
    """Files of equal bytes are one group however many they are; features of others may be the same."""
    features = draw()
    features[[3, 5, 9]] = features[3]
    features[20] = features[21]
    contents = [bytes([row % 256, row // 256]) for row in range(600)]
    contents[5] = contents[9] = contents[3]
    exact, same = look(features, contents)
    assert (exact.rows, exact.is_exact, exact.similarity) == ((3, 5, 9), True, 1.0)
    assert (same.rows, same.is_exact, same.similarity) == ((20, 21), False, 1.0)


def test_what_is_close_depends_on_the_place():
    """In a crowd of like images a pair as close as all others is none; elsewhere it is one."""
    generator = np.random.default_rng(3)
    features = draw(seed=3)
    crowd = 3 * generator.normal(size=40)
    features[:100] = crowd + 1.0 * generator.normal(size=(100, 40))
    features[300] = features[400] + 0.4 * generator.normal(size=40)
    assert [group.rows for group in look(features)] == [(300, 400)]
    features[10] = features[20] + 0.02 * generator.normal(size=40)
    assert [group.rows for group in look(features)] == [(10, 20), (300, 400)]


@pytest.mark.parametrize("d", [8, 12])
def test_pictures_that_vary_in_few_ways_are_hardly_ever_near_duplicates(d):
    """Drawings of digits come close to each other by chance alone; a near-duplicate comes closer."""
    features = draw(1500, d, seed=d).astype(np.float32)
    features[3] = features[1000] + 0.05 * np.random.default_rng(1).normal(size=d)
    around = local_density(standardise([features]))
    as_photographs, as_they_are = (
        find_near_duplicates(around.directions, [None] * 1500, around.spacing, dimension)
        for dimension in (np.inf, around.dimension)
    )
    assert (3, 1000) in [group.rows for group in as_they_are]
    assert len(as_they_are) <= 3
    assert len(as_photographs) > 15


def test_frames_of_a_film_are_near_duplicates():
    """Forty scenes of thirty frames, one after the other: most neighbours of a frame are of its own scene."""
    generator = np.random.default_rng(5)
    scenes, moves = generator.normal(size=(2, 40, 1, 40))
    features = (
        scenes + 0.2 * moves * np.linspace(0, 1, 30)[:, None] + 0.002 * generator.normal(size=(40, 30, 40))
    )
    assert [len(group.rows) for group in look(features.reshape(-1, 40))] == [30] * 40


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


def test_neighbours_are_those_of_the_slow_loop(features):
    """With all images in the sample: the 20 nearest in order, an image itself not among them."""
    directions = unit_rows(standardise([features]))
    cosine = directions @ directions.T
    np.fill_diagonal(cosine, -2)
    found = local_density(standardise([features]))
    np.testing.assert_array_equal(found.nearest[:, :5], np.argsort(-cosine, axis=1)[:, :5])
    np.testing.assert_allclose(found.spacing, distance(-np.sort(-cosine, axis=1)[:, 19]), atol=1e-3)


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
    """It is infinite."""
    assert local_density(unit_rows(features)).dimension == np.inf


def clusters(n, d, seed, twins=5):
    """Unit vectors in clusters, with a few that are nearly equal."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n, d)) * np.logspace(0, -2, d) + generator.normal(size=(1, d)) * 0.1
    points[:twins] = points[twins : 2 * twins] + 0.01 * generator.normal(size=(twins, d))
    return unit_rows(points.astype(np.float32))


def slow_pairs(directions, limit):
    """Every pair, compared in full."""
    cosine = directions @ directions.T
    one, other = np.nonzero(np.triu(cosine >= np.maximum(limit[:, None], limit), k=1))
    return {*zip(one.tolist(), other.tolist(), strict=True)}


@arbitrary(st.integers(0, 2**32 - 1), st.sampled_from([3, 40, 300]), st.floats(-0.5, 0.99))
def test_close_pairs_are_those_of_the_slow_loop(seed, d, cut):
    """The bound never rules out a pair, whatever the dimensions and the limits."""
    directions = clusters(60, d, seed)
    limit = np.random.default_rng(seed).uniform(cut, 1, 60).astype(np.float32)
    found = close_pairs(directions, limit)
    assert {*zip(found.one.tolist(), found.other.tolist(), strict=True)} == slow_pairs(directions, limit)


def test_blocks_change_nothing(monkeypatch):
    """However few pairs are bounded at once, the same are found, with cosines; or those of new images."""
    directions, limit = clusters(200, 300, 1), np.full(200, 0.1, np.float32)
    whole = close_pairs(directions, limit)
    for new in (0, 50, 200):
        found = close_pairs(directions, limit, new)
        assert {*zip(found.one, found.other, strict=True)} == {
            (one, other) for one, other in zip(whole.one, whole.other, strict=True) if one < new
        }
    monkeypatch.setattr(module, "CELLS", 1000)
    parts = close_pairs(directions, limit)
    assert len(whole.one) > 100
    for name in ("one", "other"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_allclose(parts.cosine, whole.cosine, atol=1e-6)
    np.testing.assert_allclose(
        whole.cosine, np.sum(directions[whole.one] * directions[whole.other], axis=1), atol=1e-6
    )


def test_thousands_of_pairs_are_thinned_to_a_forest(monkeypatch):
    """A crowd of like images costs a pair for each of them, and stays connected by its strongest pairs."""
    directions, limit = clusters(200, 300, 1), np.full(200, 0.1, np.float32)
    monkeypatch.setattr(module, "MOST_PAIRS", 50)
    monkeypatch.setattr(module, "CELLS", 1000)
    thin = close_pairs(directions, limit)
    monkeypatch.undo()
    whole = spanning_forest(close_pairs(directions, limit), 200)
    again = spanning_forest(thin, 200)
    assert len(again.one) == len(whole.one)
    assert again.cosine.sum() == pytest.approx(whole.cosine.sum(), rel=1e-5)


def test_no_image_has_no_pair():
    """Nothing to compare, nothing found."""
    assert len(close_pairs(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).one) == 0
    assert len(close_pairs(np.zeros((3, 4), np.float32), np.full(3, 0.5, np.float32)).one) == 0
