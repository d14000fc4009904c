"""The holdout and the folds: sizes, proportions, seeds, refusals."""

import re

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.split import Split, draw_holdout, folds
from assay.errors import UsageError
from assay.types import UNKNOWN

trusted_labels = st.lists(st.integers(UNKNOWN, 4), max_size=200).map(
    lambda labels: np.array(labels, dtype=np.int64)
)


def labels(n, k=10):
    return np.random.default_rng(0).integers(k, size=n)


@given_examples(trusted_labels, st.integers(0, 99), st.data())
def test_the_parts_are_the_trusted_rows(trusted, seed, data):
    """Each trusted row is in one part, rows ascend, two classes stay to fit, and any possible size is met."""
    rows = np.flatnonzero(trusted != UNKNOWN)
    most = max(len(rows) - 2, 0)
    size = data.draw(st.none() | st.integers(0, most))
    split = draw_holdout(trusted, size=size, seed=seed)
    assert sorted([*split.fit, *split.holdout]) == rows.tolist()
    assert (np.diff(split.fit) > 0).all()
    assert (np.diff(split.holdout) > 0).all()
    assert len(set(trusted[split.fit])) >= min(2, len(set(trusted[rows])))
    assert len(split.holdout) == (min(int(0.2 * len(rows)), most) if size is None else size)


def test_two_classes_stay_to_fit_whatever_the_seed():
    """Of two rows that stay, one is of the rare class and one of the other."""
    for trusted in ([1, 1, 1, 1, 3, 3], [0, 0, 0, 0, 0, 1]):
        rows = np.array(trusted)
        assert {len(set(rows[draw_holdout(rows, size=4, seed=seed).fit])) for seed in range(50)} == {2}


@pytest.mark.parametrize(("n", "held"), [(0, 0), (1, 0), (4, 0), (9, 1), (100, 20), (50_000, 2_000)])
def test_the_default_is_a_fifth_and_at_most_two_thousand(n, held):
    """Without a size, 20 % of the trusted rows are held out, and never more than 2,000."""
    assert len(draw_holdout(labels(n, k=2)).holdout) == held


def test_each_class_is_held_out_in_proportion_and_each_row_with_the_same_chance():
    """Of frequent and of rare classes, also the only row of one; else figures are those of other images."""
    even = np.repeat([0, 1, 2, UNKNOWN], [500, 300, 200, 1_000])
    split = draw_holdout(even, size=100, seed=3)
    assert np.abs(np.bincount(even[split.holdout]) - [50, 30, 20]).max() <= 1
    trusted = np.repeat(np.arange(43), [60, 20, *[2] * 10, *[1] * 31])
    held, chance = np.zeros(len(trusted)), 40 / len(trusted)
    for seed in range(400):
        held[draw_holdout(trusted, size=40, seed=seed).holdout] += 1
    for group in (trusted == 0, trusted == 1, (trusted > 1) & (trusted < 12), trusted >= 12):
        n = 400 * group.sum()
        assert held[group].sum() / n == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / n))


def test_the_seed_decides():
    """The same seed holds out the same rows with the same digest; other rows or parts have another one."""
    trusted, rows = labels(1_000), np.arange(3)
    split = draw_holdout(trusted, seed=5)
    assert split.digest == draw_holdout(trusted, seed=5).digest
    assert split.digest != draw_holdout(trusted, seed=6).digest
    assert Split(rows[:1], rows[1:]).digest != Split(rows[:2], rows[2:]).digest


def test_labels_without_an_image_are_neither_held_out_nor_counted():
    """Two in five trusted rows name a missing file; the notebook's rows do not depend on that."""
    trusted, usable = labels(3_000), np.arange(3_000) % 5 > 1
    split = draw_holdout(trusted, usable)
    assert (len(split.holdout), len(split.fit)) == (360, 1_440)
    assert usable[[*split.holdout, *split.fit]].all()
    notebook = draw_holdout(trusted, usable, how="notebook")
    assert notebook.digest == draw_holdout(trusted, how="notebook").digest


def test_the_notebooks_holdout_is_reproduced():
    """Among 10,000 trusted rows, those are held out that the notebook's seed does not draw."""
    trusted, where = np.full(12_000, UNKNOWN), np.arange(10_000) + 1_000
    trusted[where] = labels(10_000)
    split = draw_holdout(trusted, how="notebook", seed=77)
    legacy = np.random.RandomState(1).choice(range(10_000), 8_000, replace=False)
    assert set(split.fit) == set(where[legacy])
    assert (split.holdout[:5] - 1_000).tolist() == [0, 2, 15, 18, 20]
    assert len(split.holdout) == 2_000


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (
            2_000,
            {"how": "notebook"},
            "needs more than 2,000 trusted images, got 2,000; use --holdout-split s",
        ),
        (3_000, {"how": "notebook", "size": 500}, "notebook holds out 2,000 images, got --holdout 500"),
        (3_000, {"how": "random"}, "expected --holdout-split stratified or notebook, got 'random'"),
        (100, {"size": 99}, "expected --holdout from 0 to 98, so that two trusted images are left to train"),
        (100, {"size": -1}, "expected --holdout from 0 to 98, so that two trusted images are left to train"),
    ],
)
def test_impossible_holdouts_are_refused(n, options, message):
    """The message says which sizes and ways there are."""
    with pytest.raises(UsageError, match=re.escape(message)):
        draw_holdout(np.arange(n) % 10, **options)


@given_examples(trusted_labels.filter(lambda rows: len(rows) >= 2), st.data(), st.integers(0, 9))
def test_folds_are_even_in_size_and_in_each_class(trusted, data, seed):
    """Folds, and each class in them, differ by one row at most; a seed gives the same folds again."""
    k = data.draw(st.integers(2, min(len(trusted), 10)))
    fold_of = folds(trusted, k, seed)
    for rows in (np.full(len(trusted), True), *(trusted == label for label in set(trusted))):
        assert np.ptp(np.bincount(fold_of[rows], minlength=k)) <= 1
    assert (folds(trusted, k, seed) == fold_of).all()


def test_another_seed_gives_other_folds():
    """Rows of one class are dealt at random."""
    rows = np.zeros(100, dtype=int)
    assert (folds(rows, 5, 1) != folds(rows, 5, 2)).any()


@pytest.mark.parametrize("k", [1, 6])
def test_impossible_folds_are_refused(k):
    """There are two folds or more, and no more than rows."""
    with pytest.raises(UsageError, match=f"expected from 2 to 5 folds, one for each row at most, got {k}"):
        folds(np.zeros(5, dtype=int), k, 0)
