"""The warning of groups that nobody declared: given for patients, never for classes or plain numbers."""

import numpy as np
import pytest

from assay.correct.undeclared_groups import nearest_of_same_group, undeclared_groups
from assay.types import UNKNOWN

PATIENTS, N = 60, 600


@pytest.fixture(scope="module")
def data():
    """(features, labels, patient) of images: those of a patient are alike, two labels of five are wrong."""
    generator = np.random.default_rng(0)
    patient = generator.integers(0, PATIENTS, N)
    truth = generator.integers(0, 2, PATIENTS)[patient]
    features = generator.normal(size=(PATIENTS, 20))[patient] + generator.normal(size=(2, 20))[truth]
    features += 0.5 * generator.normal(size=(N, 20))
    labels = np.where(generator.random(N) < 0.4, 1 - truth, truth)
    return features.astype(np.float32), labels, patient


def warned(data, name, **changes):
    """The warning where the images have these names: ``name`` of row and patient."""
    features, labels, patient = data
    names = [name(row, int(patient[row])) for row in range(N)]
    return undeclared_groups(names, changes.get("labels", labels), features, changes.get("near", []))


@pytest.mark.parametrize(
    "name",
    [
        lambda row, patient: f"patient{patient:02d}_{row:04d}.png",
        lambda row, patient: f"ward/p{patient}-{row}.jpg",
        lambda row, patient: f"cat/p{patient}/{'abcdefghij'[row % 10]}{row}x.png",
    ],
)
def test_patients_in_names_are_reported(data, name):
    """By a number at the end or by folders, with an example and advice; skipped images are left out."""
    warning = warned(data, name)
    assert warning.startswith("names such as '")
    assert "% by chance); if they are of one patient, film or scene each, name that column" in warning
    _, labels, _ = data
    assert warned(data, name, labels=np.where(np.arange(N) % 3, labels, UNKNOWN)) is not None


@pytest.mark.parametrize(
    "name",
    [
        lambda row, _: f"{row}.png",
        lambda row, _: f"IMG_{row:05d}.JPG",
        lambda row, _: f"{row * 7919 % 1_000_003:x}.png",
        lambda row, _: f"p{row * 37 % 61}_{row}.png",  # groups that do not look alike
        lambda row, patient: f"{'cat' if patient % 2 else 'dog'}/{row}.png",
        lambda row, patient: f"{2015 + patient % 8}_{row}.png",
    ],
)
def test_other_names_are_not_reported(data, name):
    """Numbers, hashes, classes, a few years, and groups whose images are no more alike than others."""
    assert warned(data, name) is None


def test_names_of_classes_are_not_reported():
    """Also where a class has many kinds, and labels are wrong: the names tell the class."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 10, N)
    features = (3 * generator.normal(size=(10, 20))[truth] + generator.normal(size=(N, 20))).astype(
        np.float32
    )
    noisy = np.where(generator.random(N) < 0.6, generator.integers(0, 10, N), truth)
    names = [f"kind{label}_{row}.png" for row, label in enumerate(truth.tolist())]
    for labels in (noisy, truth, truth // 5):
        assert undeclared_groups(names, labels, features, []) is None


def test_many_near_duplicates_are_reported(data):
    """More than a tenth of the images, as frames of films are."""
    frames = [np.arange(start, start + 10) for start in range(0, 70, 10)]
    warning = warned(data, lambda row, _: f"{row}.png", near=frames)
    assert warning.startswith("11.7 % of the images are near-duplicates of other images; if they are of one")
    assert warned(data, lambda row, _: f"{row}.png", near=frames[:5]) is None


def test_chance_is_that_of_the_label():
    """Where groups are at random, the most similar image is of the same group as often as any other."""
    generator = np.random.default_rng(1)
    groups, labels = generator.integers(0, 100, 1_500), generator.integers(0, 3, 1_500)
    features = generator.normal(size=(1_500, 8)).astype(np.float32)
    same, chance = nearest_of_same_group(groups, labels, features, np.arange(1_500))
    assert same == pytest.approx(chance, abs=0.015)
    assert 0 < chance < 0.02
    few = nearest_of_same_group(groups % 9, labels, features, np.arange(1_500))
    assert few == (0.0, 0.0)
