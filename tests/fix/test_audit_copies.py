"""Groups of copies, in crowded places and in empty ones."""

import numpy as np

from assay.fix.copies import find_copies
from assay.fix.surroundings import standardise, surround


def look(features, contents=None):
    """The groups of ``features``, by rows."""
    around = surround(standardise([features.astype(np.float32)]))
    return find_copies(around.directions, contents or [None] * len(features), around.spacing)


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
