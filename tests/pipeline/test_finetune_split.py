"""Images set aside to measure fine-tuning are of no other use."""

from dataclasses import replace

import numpy as np
import pytest

from assay.embed.images import Features
from assay.errors import LabelError
from assay.pipeline.finetune_split import MOST, split_for_finetuning
from assay.pipeline.learn import TrainingLabels
from assay.types import UNKNOWN


def labelled(n=1_000, trusted=400, seed=0) -> TrainingLabels:
    """The labels of a data set whose last tenth is held out."""
    rng = np.random.default_rng(seed)
    known = np.where(np.arange(n) < trusted, rng.integers(0, 4, n), UNKNOWN)
    fold_of = np.where(np.arange(n) < n * 9 // 10, np.arange(n) % 5, UNKNOWN)
    features = Features((np.zeros((n, 1), dtype=np.float32),), (None,) * n, {}, {}, 0)
    return TrainingLabels(features, known, known, fold_of != UNKNOWN, fold_of, tuple("abcd"), seed, 0.8)


def test_a_tenth_of_the_trusted_images_each():
    """From each class in proportion; calibration images are trained on, validation images are not."""
    data = labelled()
    found = split_for_finetuning(data, [])
    assert len(found.calibration_rows) == len(found.validation) == 40
    assert (data.trusted[np.concatenate([found.calibration_rows, found.validation])] != UNKNOWN).all()
    assert np.isin(found.calibration_rows, found.train).all()
    assert not np.isin(found.validation, found.train).any()
    assert len(found.train) == 900 - 40
    counts = [np.bincount(data.trusted[rows]) for rows in (found.calibration_rows, found.validation)]
    assert np.abs(counts[0] - counts[1]).max() <= 2
    many = split_for_finetuning(labelled(40_000, 30_000), [])
    assert len(many.validation) == len(many.calibration_rows) <= MOST


def test_the_seed_draws_the_classes():
    """Where classes have fewer trusted images than ten, none is left out by its place in the alphabet."""
    classes, n = 60, 300
    known, seen = np.arange(n) % classes, set()
    for seed in range(8):
        data = replace(labelled(n, n, seed), trusted=known, noisy=known, fold_of=np.arange(n) % 5)
        found = split_for_finetuning(replace(data, classes=tuple(map(str, range(classes)))), [])
        assert len(found.validation) == len(found.calibration_rows) == 30
        seen |= {*known[found.validation]}
    assert len(seen) > 50


def test_near_duplicates_of_validation_images_are_not_trained_on():
    """Or the figure would measure memory; a calibration image among them is none."""
    data = labelled()
    plain = split_for_finetuning(data, [])
    groups = [np.array([plain.validation[0], plain.calibration_rows[0], 899]), np.array([700, 701])]
    found = split_for_finetuning(data, groups)
    assert np.array_equal(found.validation, plain.validation)
    assert np.array_equal(np.setdiff1d(plain.train, found.train), sorted([plain.calibration_rows[0], 899]))
    assert [*np.setdiff1d(plain.calibration_rows, found.calibration_rows)] == [plain.calibration_rows[0]]


def test_a_near_duplicate_does_not_give_a_calibration_label_away():
    """An image that is trained on by its trusted label under another name measures nothing."""
    data = labelled()
    plain = split_for_finetuning(data, [])
    measured = [*plain.calibration_rows, *plain.validation]
    known = np.setdiff1d(np.flatnonzero(data.trusted != UNKNOWN), measured)
    first, second = plain.calibration_rows[:2]
    found = split_for_finetuning(data, [np.array([first, known[0]]), np.array([second, 800])])
    assert [*np.setdiff1d(plain.calibration_rows, found.calibration_rows)] == [first]
    assert np.array_equal(found.train, plain.train)
    with pytest.raises(LabelError, match=r"^expected trusted images without near-duplicates .* among 400;"):
        split_for_finetuning(data, [np.append(plain.calibration_rows, known[0])])


def test_too_few_are_refused():
    """Two images would measure nothing."""
    with pytest.raises(LabelError, match=r"^expected 20 trusted images or more .* got 19;"):
        split_for_finetuning(labelled(trusted=19), [])
