"""Groups of images, such as those of a patient: read from a column, never divided by a split."""

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st
from small_datasets import drawn

from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset, read_trusted
from assay.data.split import draw_holdout, folds
from assay.errors import LabelError, TableError, UsageError
from assay.pipeline import api
from assay.types import UNKNOWN

NOISY = "file,label,patient\n1.png,a,p1\n2.png,b,p2\n3.png,a,p1\n4.png,b,\n"
TRUSTED = "file,label\n1.png,a\n2.png,b\n"


@pytest.fixture
def read(make_folder):
    """The data set of four images with these label files."""
    images = make_folder("1.png", "2.png", "3.png", "4.png")

    def read(noisy=NOISY, trusted=TRUSTED, column="patient"):
        files = {}
        for name, text in (("noisy", noisy), ("trusted", trusted)):
            files[name] = images.parent / f"{name}.csv"
            files[name].write_text(text)
        return read_dataset(images, ReadOptions(**files, group_column=column))

    return read


def together(groups):
    """Which images are in one group, whatever its number."""
    return {tuple(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


def test_images_of_one_cell_are_a_group(read):
    """An image without a group is one of its own, and a note counts both."""
    data = read()
    assert together(data.groups) == {(0, 2), (1,), (3,)}
    note = "noisy.csv: 2 groups of 3 images; 1 images without one are each a group of their own"
    assert note in data.notes
    assert not any("not read" in note for note in data.notes)
    assert read(column=None).groups is None


def test_the_trusted_file_may_have_the_column(read):
    """Alone, it groups the trusted images; beside the noisy file, the noisy one counts."""
    trusted = "file,label,patient\n1.png,a,x\n2.png,b,x\n"
    data = read("file,label\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n", trusted)
    assert together(data.groups) == {(0, 1), (2,), (3,)}
    assert together(read(trusted=trusted).groups) == {(0, 2), (1,), (3,)}


def test_a_test_set_has_groups(make_folder, write_file):
    """Its labels are the trusted ones, and the column stands among them."""
    images = make_folder("1.png", "2.png")
    labels = write_file("labels.csv", "file,label,video\n1.png,a,v\n2.png,b,v\n")
    data = read_trusted(images, ReadOptions(trusted=labels, group_column="video"))
    assert together(data.groups) == {(0, 1)}


def test_groups_in_memory():
    """One for each image, of any type; None, NaN and the empty text are no group."""
    data = api.read_dataset(drawn(4), noisy=["a", "b", "a", "b"], groups=[7, None, 7.0, float("nan")])
    assert together(data.groups) == {(0, 2), (1,), (3,)}
    assert api.read_dataset(drawn(2), noisy=["a", "b"]).groups is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"column": "video"},
            TableError,
            r"^--group-col: expected a column 'video' in the noisy or the trusted labels, got noisy.csv: "
            r"'file', 'label', 'patient'; trusted.csv: 'file', 'label'$",
        ),
        (
            {"noisy": "a\nb\na\nb\n", "trusted": "a\nb\n"},
            TableError,
            r"'patient' in the noisy or the trusted labels, got labels without columns$",
        ),
        (
            {"noisy": NOISY + "2.png,b,p1\n"},
            LabelError,
            r"^noisy.csv line 6: '2.png' is in the group 'p1' here and in 'p2' in line 3; correct the "
            r"file: an image is in one group$",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(read, changes, error, message):
    """No such column, or one image in two groups."""
    with pytest.raises(error, match=message):
        read(**changes)


def test_the_fingerprint_of_groups_is_that_of_who_is_with_whom(read):
    """The names of the groups do not matter; without groups there is none."""
    renamed = read(NOISY.replace("p1", "zoe").replace("p2", "amy"))
    assert read().group_facts() == renamed.group_facts()
    assert read().group_facts()["count"] == 3
    assert read(NOISY.replace("p2", "p1")).group_facts() != read().group_facts()
    assert read(column=None).group_facts() is None


grouped_labels = st.lists(st.tuples(st.integers(UNKNOWN, 3), st.integers(0, 30)), max_size=200).map(
    lambda rows: np.array(rows, dtype=np.int64).reshape(-1, 2).T
)


@given_examples(
    grouped_labels.filter(lambda rows: len(np.unique(rows[1])) >= 2), st.data(), st.integers(0, 9)
)
def test_a_group_is_in_one_fold(rows, data, seed):
    """No fold is empty, and the same seed gives the same folds again."""
    labels, groups = rows
    k = data.draw(st.integers(2, min(len(np.unique(groups)), 8)))
    fold_of = folds(labels, k, seed, groups)
    assert all(len(np.unique(fold_of[groups == group])) == 1 for group in np.unique(groups))
    assert {*fold_of.tolist()} == {*range(k)}
    assert (folds(labels, k, seed, groups) == fold_of).all()


def test_folds_are_as_even_as_groups_allow():
    """Patients of one class each, with 1 to 60 images: each fold has its share of each class."""
    generator = np.random.default_rng(0)
    size = generator.integers(1, 60, 60)
    groups, labels = np.repeat(np.arange(60), size), np.repeat(np.arange(60) % 3, size)
    fold_of = folds(labels, 5, 0, groups)
    counts = np.array([np.bincount(labels[fold_of == fold], minlength=3) for fold in range(5)])
    assert (np.abs(counts / counts.mean(axis=0) - 1) < 0.1).all()
    with pytest.raises(
        UsageError, match=r"^expected from 2 to 60 folds, one for each group at most, got 61;"
    ):
        folds(labels, 61, 0, groups)


@given_examples(grouped_labels, st.integers(0, 9), st.data())
def test_a_group_is_on_one_side_of_the_holdout(rows, seed, data):
    """Its images without a trusted label too: they are neither trained on nor evaluated."""
    trusted, groups = rows
    known = np.flatnonzero(trusted != UNKNOWN)
    size = data.draw(st.none() | st.integers(0, max(len(known) - 2, 0)))
    split = draw_holdout(trusted, size=size, seed=seed, groups=groups)
    assert sorted([*split.fit, *split.holdout]) == known.tolist()
    assert (trusted[split.beside] == UNKNOWN).all()
    held = np.isin(groups, groups[split.holdout])
    assert np.flatnonzero(held).tolist() == split.hidden.tolist()


def test_each_group_is_held_out_with_the_same_chance():
    """A fifth of the images is held out on average, large groups as often as small ones."""
    generator = np.random.default_rng(0)
    size = generator.integers(1, 60, 40)
    groups, trusted = np.repeat(np.arange(40), size), np.repeat(np.arange(40) % 3, size)
    held = np.zeros(40)
    for seed in range(400):
        split = draw_holdout(trusted, seed=seed, groups=groups)
        assert abs(len(split.holdout) / len(groups) - 0.2) < 0.05
        held[np.unique(groups[split.holdout])] += 1
    assert np.abs(held / 400 - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 400)
    assert abs(len(draw_holdout(trusted, size=300, groups=groups).holdout) - 300) < 40


def test_the_notebooks_holdout_divides_groups():
    """So the two options exclude each other."""
    with pytest.raises(UsageError, match=r"^--holdout-split notebook holds out images whatever their group;"):
        draw_holdout(np.arange(3_000) % 10, how="notebook", groups=np.arange(3_000) // 3)
