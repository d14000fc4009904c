"""A few images of a dataset as a model would see them."""

import numpy as np
import pytest
from new_images import draw_new_images

from assay.data.images import decode
from assay.data.read import read_images
from assay.data.resize import to_square
from assay.data.squares import read_squares, spread


@pytest.fixture
def new_images(tmp_path):
    """Seven images and four files that are none."""
    return draw_new_images(tmp_path / "new")


@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
def test_usable_images_become_squares(new_images, interpolation):
    """Of eleven files seven are images; each is what the loader and the resize make of it."""
    dataset = read_images(new_images)
    found = read_squares(dataset, np.arange(len(dataset)), 16, interpolation)
    pixels = [decode((new_images / name).read_bytes(), at_least=16).pixels for name in dataset.names[:7]]
    assert found.rows.tolist() == list(range(7))
    assert (found.images == np.stack([to_square(image, 16, interpolation) for image in pixels])).all()


def test_a_sample_is_spread_over_the_rows():
    """From the first to the last; all of them where there are no more."""
    rows = np.arange(10, 20)
    assert spread(rows, 3).tolist() == [10, 14, 19]
    assert spread(rows, 2).tolist() == [10, 19]
    assert spread(rows, 50).tolist() == rows.tolist()
    assert spread(rows[:0], 5).tolist() == []


def test_no_usable_image_gives_none(new_images):
    """Damaged rows and no rows: an empty batch of the right shape."""
    dataset = read_images(new_images)
    for rows in (np.arange(7, 11), np.arange(0)):
        found = read_squares(dataset, rows, 32, "bicubic")
        assert found.images.shape == (0, 32, 32, 3)
        assert len(found.rows) == 0
