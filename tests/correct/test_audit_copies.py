"""Groups of copies, in crowded places and in empty ones."""

import numpy as np
import pytest

from assay.correct.near_duplicates import CLOSER, closer_of, find_near_duplicates, local_density, standardise


def look(features, contents=None):
    """The groups of ``features``, by rows."""
    around = local_density(standardise([features.astype(np.float32)]))
    unknown = [None] * len(features)
    return find_near_duplicates(around.directions, contents or unknown, around.spacing, around.dimension)


def draw(n=600, d=40, seed=0):
    """Strangers."""
    return np.random.default_rng(seed).normal(size=(n, d))


def test_strangers_are_no_copies():
    """Nothing is found where nothing is; nor are rows that say nothing."""
    assert look(draw()) == ()
    assert look(np.zeros((30, 5)))[0].rows == tuple(range(30))


def test_a_copy_that_was_changed_a_little_is_found():
    """A re-saved picture is a near copy, with its similarity."""
    features = draw()
    features[7] = features[500] + 0.1 * np.random.default_rng(1).normal(size=40)
    (group,) = look(features)
    assert (group.rows, group.is_exact) == ((7, 500), False)
    assert 0.98 < group.similarity < 1


def test_equal_bytes_are_exact_copies():
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
    """In a crowd of like images a pair as close as everybody is no copy; elsewhere it is one."""
    generator = np.random.default_rng(3)
    features = draw(seed=3)
    crowd = 3 * generator.normal(size=40)
    features[:100] = crowd + 1.0 * generator.normal(size=(100, 40))
    features[300] = features[400] + 0.4 * generator.normal(size=40)
    assert [group.rows for group in look(features)] == [(300, 400)]
    features[10] = features[20] + 0.02 * generator.normal(size=40)
    assert [group.rows for group in look(features)] == [(10, 20), (300, 400)]


def test_the_largest_group_comes_first():
    """Thirty copies are one group, though their neighbours are all copies too."""
    generator = np.random.default_rng(4)
    features = draw(2000, seed=4)
    features[100:130] = features[100] + 0.05 * generator.normal(size=(30, 40))
    features[0] = features[1] + 0.05 * generator.normal(size=40)
    big, small = look(features)
    assert (big.rows, small.rows) == (tuple(range(100, 130)), (0, 1))


def test_the_order_of_images_changes_no_group():
    """Shuffled rows give the shuffled groups."""
    features = draw()
    features[7], features[30] = features[500] + 0.1, features[31] + 0.05
    order = np.random.default_rng(2).permutation(600)
    plain = {frozenset(group.rows) for group in look(features)}
    shuffled = {frozenset(order[list(group.rows)].tolist()) for group in look(features[order])}
    assert plain == shuffled == {frozenset({7, 500}), frozenset({30, 31})}


@pytest.mark.parametrize("d", [8, 12])
def test_strangers_that_vary_in_few_ways_are_hardly_ever_copies(d):
    """As drawings of digits do: they come close to each other, by chance alone. A copy comes closer."""
    features = draw(1500, d, seed=d).astype(np.float32)
    features[3] = features[1000] + 0.05 * np.random.default_rng(1).normal(size=d)
    around = local_density(standardise([features]))
    as_photographs, as_they_are = (
        [
            group.rows
            for group in find_near_duplicates(around.directions, [None] * 1500, around.spacing, dimension)
        ]
        for dimension in (np.inf, around.dimension)
    )
    assert (3, 1000) in as_they_are
    assert len(as_they_are) <= 3
    assert len(as_photographs) > 15


def test_the_share_of_the_spacing_falls_with_the_dimension():
    """Never above that of photographs, nor to nothing."""
    shares = [closer_of(d) for d in (1.0, 8.0, 12.0, 20.0, 100.0, np.inf)]
    assert shares == sorted(shares)
    assert shares[0] == shares[1] == pytest.approx(0.279, abs=0.001)
    assert 20 * shares[2] ** 12 == pytest.approx(20 * CLOSER**20)
    assert shares[3] == shares[5] == CLOSER


def test_frames_of_a_film_are_copies():
    """Forty scenes of thirty frames, one after the other: most neighbours of a frame are of its own scene."""
    generator = np.random.default_rng(5)
    scenes, moves = generator.normal(size=(2, 40, 1, 40))
    features = (
        scenes + 0.2 * moves * np.linspace(0, 1, 30)[:, None] + 0.002 * generator.normal(size=(40, 30, 40))
    )
    assert [len(group.rows) for group in look(features.reshape(-1, 40))] == [30] * 40
