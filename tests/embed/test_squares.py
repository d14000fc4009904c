"""All images of a dataset as squares of one side."""

import errno
import os
from contextlib import contextmanager

import numpy as np
import pytest
from pictures import saved
from small_datasets import dataset_of, noise

from assay.data.dataset import Skipped
from assay.data.resize import to_square
from assay.embed.squares import fill_squares, room_for_squares
from assay.errors import ResourceError


@contextmanager
def held_squares(dataset, size, place, **how):
    with room_for_squares(dataset, size, place) as squares:
        fill_squares(squares, dataset, **how)
        yield squares


def test_squares_are_what_a_network_would_see(tmp_path):
    """As ``to_square`` makes them; zeros where an image cannot be used; no file is left behind."""
    dataset = dataset_of([saved(noise(0, 40, 60)), b"", saved(noise(2, 90, 90))])
    with held_squares(dataset, 32, tmp_path, workers=1) as squares:
        assert squares.shape == (3, 32, 32, 3)
        assert np.array_equal(squares[0], to_square(np.asarray(noise(0, 40, 60)), 32))
        assert np.array_equal(squares[2], to_square(np.asarray(noise(2, 90, 90)), 32))
        assert not squares[1].any()
    assert [*tmp_path.iterdir()] == []


def test_small_images_are_not_enlarged(tmp_path):
    """The side is that of the largest image; it costs no memory to show it larger later."""
    dataset = dataset_of([saved(noise(0, 20, 24)), saved(noise(1, 16, 16))])
    with held_squares(dataset, 96, tmp_path) as squares:
        assert squares.shape == (2, 24, 24, 3)


def test_that_image_is_decoded_as_all_are(tmp_path, monkeypatch):
    """Where there are many, by a process: it may be one that hangs or crashes."""
    asked = []

    @contextmanager
    def noted(n_images, number):
        asked.append((n_images, number))
        yield lambda *_: Skipped("crash")

    monkeypatch.setattr("assay.embed.squares.decoders_for", noted)
    with room_for_squares(dataset_of([saved(noise(row)) for row in range(3)]), 64, tmp_path) as squares:
        assert (asked, squares.shape) == ([(3, 1)], (3, 1, 1, 3))


def test_progress_counts_images(tmp_path):
    """Up to all of them."""
    seen = []
    dataset = dataset_of([saved(noise(row)) for row in range(3)])
    with held_squares(dataset, 16, tmp_path, progress=lambda *told: seen.append(told)):
        assert seen == [("read", 3, 3)]


def test_a_full_disk_is_known_before_the_work(tmp_path, monkeypatch):
    """Room for all squares is claimed first; the message says how much is needed."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(ResourceError, match="expected room for 768 bytes of images to learn from: No space"),
        held_squares(dataset_of([saved(noise(0))]), 16, tmp_path),
    ):
        pass


def test_the_side_is_that_of_the_largest_image_that_can_be_used(tmp_path):
    """One that is cut would have all be held enlarged; where there is none, squares have one pixel."""
    cut, small = saved(noise(0, 30, 90))[:2000], saved(noise(1, 9, 9))
    for files, side in ([cut, small], 9), ([small, saved(noise(2, 12, 70))], 64), ([b"x"], 1), ([], 1):
        with room_for_squares(dataset_of(files), 64, tmp_path) as squares:
            assert squares.shape == (len(files), side, side, 3)
            assert not squares.any()


def test_room_is_claimed_where_the_system_has_no_call_for_it(tmp_path, monkeypatch):
    """As on macOS and Windows: zeros are written, and the squares are the same."""
    monkeypatch.delattr(os, "posix_fallocate")
    dataset = dataset_of([saved(noise(row)) for row in range(3)])
    with held_squares(dataset, 16, tmp_path) as squares:
        assert np.array_equal(squares[2], to_square(np.asarray(noise(2)), 16))
