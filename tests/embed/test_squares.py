"""All images of a data set at one size, to train on."""

import errno
import os

import numpy as np
import pytest
from pictures import saved
from small_datasets import dataset_of, noise

from assay.data.resize import to_square
from assay.embed.images import fill_images, room_for_images
from assay.errors import ResourceError


@pytest.mark.parametrize("has_call", [True, False])
def test_squares_are_the_resized_images(tmp_path, monkeypatch, has_call):
    """Zeros where an image cannot be used; no file is left behind, whatever call claims the room."""
    if not has_call:
        monkeypatch.delattr(os, "posix_fallocate")
    seen, dataset = [], dataset_of([saved(noise(0, 40, 60)), b"", saved(noise(2, 90, 90))])
    with room_for_images(dataset, 32, tmp_path) as resized_images:
        assert not resized_images.any()
        fill_images(resized_images, dataset, workers=1, progress=lambda *step: seen.append(step))
        assert resized_images.shape == (3, 32, 32, 3)
        assert np.array_equal(resized_images[0], to_square(np.asarray(noise(0, 40, 60)), 32))
        assert np.array_equal(resized_images[2], to_square(np.asarray(noise(2, 90, 90)), 32))
        assert not resized_images[1].any()
    assert [*tmp_path.iterdir()] == []
    assert seen == [("read", 3, 3)]


def test_the_side_is_that_of_the_largest_usable_image(tmp_path):
    """Small images are not enlarged, a cut one does not count; without any, squares have one pixel."""
    cut, small = saved(noise(0, 30, 90))[:2000], saved(noise(1, 9, 9))
    for files, side in ([cut, small], 9), ([small, saved(noise(2, 12, 70))], 64), ([b"x"], 1), ([], 1):
        with room_for_images(dataset_of(files), 64, tmp_path) as resized_images:
            assert resized_images.shape == (len(files), side, side, 3)


def test_a_full_disk_is_known_before_the_work(tmp_path, monkeypatch):
    """Fault 48: room for all images is claimed first; the message has the size."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(ResourceError, match="expected room for 768 bytes of images to train on: No space"),
        room_for_images(dataset_of([saved(noise(0))]), 16, tmp_path),
    ):
        pass
