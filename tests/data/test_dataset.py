"""What a dataset knows of images that were read once."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from small_datasets import dataset_of

from assay.data.dataset import Dataset, Skipped
from assay.data.memory import MemorySource
from assay.errors import DataError, LabelError
from assay.types import UNKNOWN

FILES = (b"one", b"two", Skipped("missing"), b"four")


def contents_of(files) -> list[bytes | None]:
    return [None if isinstance(file, Skipped) else hashlib.sha256(file).digest() for file in files]


def test_images_that_stay_as_they_were_are_read():
    """Each as often as it is asked for, and each that was skipped stays so, whatever it is now."""
    skipped = {2: Skipped("missing"), 3: Skipped("not_an_image")}
    seen = replace(dataset_of(FILES), skipped=skipped, contents=contents_of(FILES))
    assert [seen.read(row) for row in (0, 1, 1)] == [b"one", b"two", b"two"]
    assert [seen.read(row).reason for row in (2, 3)] == ["missing", "not_an_image"]
    assert seen.usable.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (b"three", "'1.png' was read before, and has other bytes now; "),
        (Skipped("permission"), "'1.png' was read before, and can no longer be read: permission; "),
    ],
)
def test_an_image_that_changed_since_is_an_error(now, message):
    """A row of zeros, or another picture under the same label, would be worse."""
    seen = replace(dataset_of((b"one", now)), contents=contents_of((b"one", b"two")))
    assert seen.read(0) == b"one"
    with pytest.raises(DataError, match=message):
        seen.read(1)


def test_labels_of_some_rows_can_be_hidden():
    """No label of those rows is known; all others, and the dataset itself, stay."""
    labels = {"noisy": np.array([0, 1, 0, 1]), "trusted": np.array([1, 1, -1, -1]), "decided": {2: 1, 3: 0}}
    data = replace(dataset_of(FILES), classes=("a", "b"), **labels)
    hidden = data.without(np.array([0, 2]))
    assert hidden.noisy.tolist() == [-1, 1, -1, 1]
    assert hidden.trusted.tolist() == [-1, 1, -1, -1]
    assert hidden.decided == {3: 0}
    assert hidden.known.tolist() == [-1, 1, -1, 0]
    assert (data.noisy.tolist(), data.decided) == ([0, 1, 0, 1], {2: 1, 3: 0})
    assert hidden.names == data.names


def trusted_as(trusted):
    names, unknown = tuple(f"{i}.png" for i in range(len(trusted))), np.full(len(trusted), UNKNOWN)
    return Dataset(names, MemorySource(names), ("cat", "dog"), unknown, np.array(trusted))


def test_equal_images_with_different_trusted_labels_are_refused():
    """Fault 32: both names and both labels of the first three pairs are named."""
    with pytest.raises(LabelError) as refused:
        trusted_as([0, 1, 1, 0, UNKNOWN]).check_equal_images([b"x", b"y", b"x", b"x", b"y"])
    assert str(refused.value) == (
        "conflicting_trusted: equal images with different trusted labels: '0.png' is 'cat', '2.png' "
        "is 'dog'. Correct one label of each pair, or leave both empty"
    )
    with pytest.raises(LabelError, match=r"; and 2 more\. Correct"):
        trusted_as([0, 1, 1, 1, 1, 1]).check_equal_images([b"x"] * 6)
    # Equal labels, unknown labels and images that cannot be used contradict nothing.
    trusted_as([0, 0, UNKNOWN, 0, 1]).check_equal_images([b"x", b"x", b"x", None, None])
