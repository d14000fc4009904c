"""Images set aside are of no other use."""

from dataclasses import replace

import numpy as np
import pytest

from assay.embed.images import Features
from assay.errors import LabelError
from assay.pipeline.finetune_split import MOST, split_for_finetuning
from assay.pipeline.learn import Labelled
from assay.types import UNKNOWN


def labelled(n=1_000, trusted=400, seed=0) -> Labelled:
    """The labels of a data set whose last tenth is held out."""
    rng = np.random.default_rng(seed)
    known = np.where(np.arange(n) < trusted, rng.integers(0, 4, n), UNKNOWN)
    fold_of = np.where(np.arange(n) < n * 9 // 10, np.arange(n) % 5, UNKNOWN)
    blank = np.zeros((n, 1), dtype=np.float32)
    features = Features((blank,), (None,) * n, {}, {}, 0)
    return Labelled(features, known, known, fold_of != UNKNOWN, fold_of, tuple("abcd"), seed, 0.8)


def test_a_tenth_of_the_trusted_images_each():
    """From each class in proportion; spies are learned from, the watched are not."""
    data = labelled()
    found = split_for_finetuning(data, [])
    assert len(found.calibration_rows) == len(found.validation) == 40
    assert (data.trusted[found.calibration_rows] != UNKNOWN).all()
    assert (data.trusted[found.validation] != UNKNOWN).all()
    assert np.isin(found.calibration_rows, found.learn).all()
    assert not np.isin(found.validation, found.learn).any()
    assert len(found.learn) == 900 - 40
    counts = [np.bincount(data.trusted[rows]) for rows in (found.calibration_rows, found.validation)]
    assert np.abs(counts[0] - counts[1]).max() <= 2


def test_a_seed_draws_which_classes_judge():
    """Where classes have fewer trusted images than ten, no class is left out by its place in the alphabet."""
    classes, n = 60, 300
    known = np.arange(n) % classes
    seen = set()
    for seed in range(8):
        data = replace(labelled(n, n, seed), trusted=known, noisy=known, fold_of=np.arange(n) % 5)
        found = split_for_finetuning(replace(data, classes=tuple(map(str, range(classes)))), [])
        assert len(found.validation) == len(found.calibration_rows) == 30
        seen |= {*known[found.validation]}
    assert len(seen) > 50


def test_copies_of_a_watched_picture_are_not_learned_from():
    """Or the figure would measure memory; a spy among them is no spy."""
    data = labelled()
    plain = split_for_finetuning(data, [])
    near_duplicates = [np.array([plain.validation[0], plain.calibration_rows[0], 899]), np.array([700, 701])]
    found = split_for_finetuning(data, near_duplicates)
    assert np.array_equal(found.validation, plain.validation)
    assert np.array_equal(np.setdiff1d(plain.learn, found.learn), sorted([plain.calibration_rows[0], 899]))
    assert np.array_equal(
        np.setdiff1d(plain.calibration_rows, found.calibration_rows), [plain.calibration_rows[0]]
    )


def test_the_label_of_a_spy_is_not_told_by_a_copy():
    """A picture that is learned from with its trusted label judges nothing, under whatever name."""
    data = labelled()
    plain = split_for_finetuning(data, [])
    taught = np.setdiff1d(
        np.flatnonzero(data.trusted != UNKNOWN), [*plain.calibration_rows, *plain.validation]
    )
    near_duplicates = [
        np.array([plain.calibration_rows[0], taught[0]]),
        np.array([plain.calibration_rows[1], 800]),
    ]
    found = split_for_finetuning(data, near_duplicates)
    assert np.array_equal(
        np.setdiff1d(plain.calibration_rows, found.calibration_rows), [plain.calibration_rows[0]]
    )
    assert np.array_equal(found.learn, plain.learn)
    with pytest.raises(LabelError, match=r"^expected trusted images without copies .* none among 400 "):
        split_for_finetuning(data, [np.append(plain.calibration_rows, taught[0])])


def test_of_many_no_more_than_enough():
    """A thousand tell enough."""
    found = split_for_finetuning(labelled(40_000, 30_000), [])
    assert len(found.validation) == len(found.calibration_rows) <= MOST


def test_too_few_are_refused():
    """Two images would judge nothing."""
    with pytest.raises(LabelError, match=r"^expected 20 trusted images or more .* got 19;"):
        split_for_finetuning(labelled(trusted=19), [])
