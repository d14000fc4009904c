import re

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.split import Split, draw_holdout, folds, validation_slice
from assay.errors import UsageError
from assay.types import UNKNOWN

trusted_labels = st.lists(st.integers(UNKNOWN, 4), max_size=200).map(
    lambda labels: np.array(labels, dtype=np.int64)
)


def labels(n, k=10, seed=0):
    return np.random.default_rng(seed).integers(k, size=n)


@given_examples(trusted_labels, st.integers(0, 99))
def test_the_parts_are_the_trusted_rows(trusted, seed):
    """Every trusted row is in exactly one part, rows ascend, and two classes are left to fit."""
    split = draw_holdout(trusted, seed=seed)
    rows = np.flatnonzero(trusted != UNKNOWN)
    assert sorted([*split.fit, *split.holdout]) == rows.tolist()
    assert (np.diff(split.fit) > 0).all()
    assert (np.diff(split.holdout) > 0).all()
    assert len(set(trusted[split.fit])) >= min(2, len(set(trusted[rows])))
    assert len(split.holdout) <= 0.2 * len(rows)


@given_examples(trusted_labels, st.data())
def test_any_size_that_leaves_two_rows_is_met_exactly(trusted, data):
    """The holdout has the size asked for, up to all but two."""
    rows = trusted[trusted != UNKNOWN]
    most = max(len(rows) - 2, 0)
    size = data.draw(st.integers(0, most))
    assert len(draw_holdout(trusted, size=size).holdout) == size
    with pytest.raises(UsageError, match=f"expected --holdout from 0 to {most}, so that two trusted"):
        draw_holdout(trusted, size=most + 1)


def test_each_class_is_held_out_in_proportion():
    """The share of a class in the holdout is its share among the trusted, to within one row."""
    trusted = np.repeat([0, 1, 2, UNKNOWN], [500, 300, 200, 1_000])
    split = draw_holdout(trusted, size=100, seed=3)
    assert np.abs(np.bincount(trusted[split.holdout]) - [50, 30, 20]).max() <= 1


@pytest.mark.parametrize(
    ("n", "held"), [(0, 0), (1, 0), (4, 0), (9, 1), (100, 20), (10_000, 2_000), (50_000, 2_000)]
)
def test_the_default_is_a_fifth_and_at_most_two_thousand(n, held):
    """Without a size, 20 % of the trusted rows are held out, and never more than 2,000."""
    assert len(draw_holdout(labels(n, k=2)).holdout) == held


def test_each_row_has_the_same_chance():
    """Of frequent and of rare classes, also the only row of one: else figures are those of other images."""
    trusted = np.repeat(np.arange(43), [60, 20, *[2] * 10, *[1] * 31])
    held = np.zeros(len(trusted))
    for seed in range(400):
        held[draw_holdout(trusted, size=40, seed=seed).holdout] += 1
    chance = 40 / len(trusted)
    groups = [trusted == 0, trusted == 1, (trusted > 1) & (trusted < 12), trusted >= 12]
    for group in groups:
        n = 400 * group.sum()
        assert held[group].sum() / n == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / n))


def test_the_only_other_class_stays():
    """Nothing is learned from one class, so its one row is never held out."""
    trusted = np.array([0] * 50 + [1])
    assert all(50 in draw_holdout(trusted, size=40, seed=seed).fit for seed in range(30))


def test_the_seed_decides():
    """The same seed holds out the same rows with the same digest; another seed does not."""
    trusted = labels(1_000)
    split = draw_holdout(trusted, seed=5)
    assert split.digest == draw_holdout(trusted, seed=5).digest
    assert split.digest != draw_holdout(trusted, seed=6).digest


def test_labels_without_an_image_are_neither_held_out_nor_counted():
    """Two in five trusted rows name a file that is not there; the notebook's rows are what they are."""
    trusted, usable = labels(3_000), np.arange(3_000) % 5 > 1
    split = draw_holdout(trusted, usable)
    assert len(split.holdout) == 360
    assert usable[split.holdout].all()
    assert usable[split.fit].all()
    assert len(split.fit) == 1_440
    notebook = draw_holdout(trusted, usable, how="notebook")
    assert notebook.digest == draw_holdout(trusted, how="notebook").digest


def test_the_digest_tells_the_parts_apart():
    """Moving a row from one part to the other changes the digest."""
    rows = np.arange(3)
    assert Split(rows[:1], rows[1:]).digest != Split(rows[:2], rows[2:]).digest


def test_the_notebooks_holdout_is_reproduced():
    """Among 10,000 trusted rows, those are held out that the notebook's seed does not draw."""
    trusted = np.full(12_000, UNKNOWN)
    where = np.arange(10_000) + 1_000
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
            "needs more than 2,000 trusted images, got 2,000; use --holdout-split stratified",
        ),
        (
            3_000,
            {"how": "notebook", "size": 500},
            "--holdout-split notebook holds out 2,000 images, got --holdout 500",
        ),
        (3_000, {"how": "random"}, "expected --holdout-split stratified or notebook, got 'random'"),
        (
            100,
            {"size": -1},
            "expected --holdout from 0 to 98, so that two trusted images are left to learn from, got -1",
        ),
    ],
)
def test_what_cannot_be_held_out_is_refused(n, options, message):
    """Sizes and ways that cannot be are named together with what can."""
    with pytest.raises(UsageError, match=re.escape(message)):
        draw_holdout(np.arange(n) % 10, **options)


def test_a_validation_slice_is_taken_out_of_the_rows():
    """The two parts are the rows, ascending, the second of the size asked for, decided by the seed."""
    rows = np.array([9, 2, 7, 5, 30])
    train, validation = validation_slice(rows, 2, seed=0)
    assert sorted([*train, *validation]) == sorted(rows)
    assert len(validation) == 2
    assert (np.diff(train) > 0).all()
    assert [part.tolist() for part in validation_slice(rows, 2, seed=0)] == [
        train.tolist(),
        validation.tolist(),
    ]
    assert validation_slice(np.array([], dtype=int), 0, seed=0)[0].size == 0
    for size in (5, -1):
        with pytest.raises(UsageError, match=f"expected a validation part from 0 to 4 rows, got {size}"):
            validation_slice(rows, size, seed=0)


@given_examples(trusted_labels.filter(lambda rows: len(rows) >= 2), st.data(), st.integers(0, 9))
def test_folds_are_even_in_size_and_in_each_class(trusted, data, seed):
    """Folds, and each class in them, differ by one row at most."""
    k = data.draw(st.integers(2, min(len(trusted), 10)))
    fold_of = folds(trusted, k, seed)
    for rows in (np.full(len(trusted), True), *(trusted == label for label in set(trusted))):
        assert np.ptp(np.bincount(fold_of[rows], minlength=k)) <= 1


def test_folds_of_a_number_of_rows():
    """A number stands for rows that are all alike; the seed decides."""
    assert np.bincount(folds(11, 3, 0)).tolist() == [4, 4, 3]
    assert (folds(100, 5, 1) == folds(100, 5, 1)).all()
    assert (folds(100, 5, 1) != folds(100, 5, 2)).any()


@pytest.mark.parametrize("k", [1, 6])
def test_folds_that_cannot_be_are_refused(k):
    """There are at least two folds, and no more than rows."""
    with pytest.raises(UsageError, match=f"expected from 2 to 5 folds, one for each row at most, got {k}"):
        folds(5, k, 0)
