"""All close pairs, against the loop that defines them."""

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import settings
from hypothesis import strategies as st

from assay.correct import near_duplicates as module
from assay.correct.near_duplicates import Pairs, close_pairs, spanning_forest, unit_rows


def draw(n, d, seed, twins=5):
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


@settings(deadline=None)
@arbitrary(st.integers(0, 2**32 - 1), st.sampled_from([3, 40, 300]), st.floats(-0.5, 0.99))
def test_it_is_the_slow_loop(seed, d, cut):
    """The bound never rules out a pair, whatever the dimensions and the limits."""
    directions = draw(60, d, seed)
    limit = np.random.default_rng(seed).uniform(cut, 1, 60).astype(np.float32)
    found = close_pairs(directions, limit)
    assert {*zip(found.one.tolist(), found.other.tolist(), strict=True)} == slow_pairs(directions, limit)


def test_blocks_change_nothing(monkeypatch):
    """However few pairs are bounded at once, the same are found, with their cosines."""
    directions, limit = draw(200, 300, 1), np.full(200, 0.1, np.float32)
    whole = close_pairs(directions, limit)
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
    directions, limit = draw(200, 300, 1), np.full(200, 0.1, np.float32)
    monkeypatch.setattr(module, "MOST_PAIRS", 50)
    monkeypatch.setattr(module, "CELLS", 1000)
    thin = close_pairs(directions, limit)
    monkeypatch.undo()
    whole = spanning_forest(close_pairs(directions, limit), 200)
    again = spanning_forest(thin, 200)
    assert len(again.one) == len(whole.one)
    assert again.cosine.sum() == pytest.approx(whole.cosine.sum(), rel=1e-5)


def test_a_forest_keeps_the_strongest_links():
    """Of a triangle the weakest side goes."""
    triangle = Pairs(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.9, 1.0, 0.8], np.float32))
    forest = spanning_forest(triangle, 3)
    assert sorted(zip(forest.one, forest.other, forest.cosine.round(3), strict=True)) == [
        (0, 1, np.float32(0.9)),
        (0, 2, np.float32(1.0)),
    ]


def test_no_image_has_no_pair():
    """Nothing to compare, nothing found."""
    assert len(close_pairs(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).one) == 0
    assert len(close_pairs(np.zeros((3, 4), np.float32), np.full(3, 0.5, np.float32)).one) == 0
