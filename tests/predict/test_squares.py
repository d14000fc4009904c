"""A few images of a dataset as a model would see them."""

import numpy as np
import pytest

from assay.data.images import decode, to_square
from assay.data.read import read_images
from assay.predict.squares import sample_squares


@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
def test_usable_images_become_squares(new_images, interpolation):
    """Of eleven files seven are images; each is what the loader and the resize make of it."""
    dataset = read_images(new_images)
    found = sample_squares(dataset, np.arange(len(dataset)), 16, interpolation)
    pixels = [decode((new_images / name).read_bytes(), at_least=16).pixels for name in dataset.names[:7]]
    assert (found == np.stack([to_square(image, 16, interpolation) for image in pixels])).all()


def test_the_sample_is_spread_over_the_rows(new_images):
    """Two of the first five rows are the first and the last of them."""
    dataset = read_images(new_images)
    both = sample_squares(dataset, np.array([0, 4]), 32, "bicubic")
    assert (sample_squares(dataset, np.arange(5), 32, "bicubic", most=2) == both).all()


def test_no_usable_image_gives_none(new_images):
    """Damaged rows and no rows: an empty batch of the right shape."""
    dataset = read_images(new_images)
    for rows in (np.arange(7, 11), np.arange(0)):
        assert sample_squares(dataset, rows, 32, "bicubic").shape == (0, 32, 32, 3)
