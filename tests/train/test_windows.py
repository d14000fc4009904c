"""Windows of pictures against what NumPy and Pillow make of them."""

import numpy as np
import pytest
from PIL import Image

from assay.train.crops import Crops, draw_crops


def window(middle: tuple[float, float] = (0.5, 0.5), extent: tuple[float, float] = (1.0, 1.0)) -> Crops:
    return Crops(np.array(middle)[:, None], np.array(extent)[:, None])


def seen(picture: np.ndarray, size: int, what: Crops) -> np.ndarray:
    """One plane through the window."""
    down, right = (matrix[0] for matrix in what.matrices(len(picture), size))
    return down @ picture @ right.T


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (24, 24)).astype(np.float32)


@pytest.mark.parametrize("size", [11, 16, 24, 36, 96])
def test_the_whole_picture_is_what_pillow_makes_of_it(picture, size):
    """But for the border, outside of which Pillow sees nothing and a window the mirror image."""
    pillow = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
    found, edge = seen(picture, size, window()), -(-3 * size // 24) + 1
    assert found.shape == (size, size)
    assert found[edge:-edge, edge:-edge] == pytest.approx(pillow[edge:-edge, edge:-edge], abs=0.01)


def test_a_window_may_be_wider_and_lie_elsewhere(picture):
    """Three quarters of the height from a quarter of it on, and half of the width, as Pillow's box has it."""
    found = seen(picture, 48, window((0.625, 0.5), (0.75, 0.5)))
    boxed = Image.fromarray(picture).resize((48, 48), Image.Resampling.BICUBIC, box=(6, 6, 18, 24))
    assert found[8:-8, 12:-12] == pytest.approx(np.asarray(boxed)[8:-8, 12:-12], abs=0.01)


@pytest.mark.parametrize(("down", "right"), [(0, 5), (-7, 0), (20, -20)])
def test_what_lies_outside_is_mirrored(picture, down, right):
    """By whole pixels: NumPy's ``reflect``, once and again, and not a colour more."""
    wide = np.pad(picture, 48, mode="reflect")
    shifted = wide[48 + down : 72 + down, 48 + right : 72 + right]
    assert seen(picture, 24, window((0.5 + down / 24, 0.5 + right / 24))) == pytest.approx(shifted, abs=1e-3)


@pytest.mark.parametrize(("side", "size"), [(1, 8), (2, 8), (8, 3)])
def test_one_colour_stays_that_colour(side, size):
    """Wherever the window lies, however small the picture is."""
    what = draw_crops(20, np.random.default_rng(0), shift=0.5, zoom=3.0, stretch=2.0)
    for matrix in what.matrices(side, size):
        assert matrix.shape == (20, size, side)
        assert matrix.sum(axis=2) == pytest.approx(np.ones((20, size)), abs=1e-5)


def test_windows_stay_within_what_was_allowed():
    """And use all of it; the same chance draws the same ones."""
    drawn = draw_crops(500, np.random.default_rng(0), shift=0.1, zoom=1.5, stretch=1.2)
    again = draw_crops(500, np.random.default_rng(0), shift=0.1, zoom=1.5, stretch=1.2)
    assert np.array_equal(drawn.extent, again.extent)
    assert np.array_equal(drawn.middle, again.middle)
    assert np.abs(drawn.middle - 0.5).max() == pytest.approx(0.1, abs=0.01)
    zoom, stretch = np.sqrt(1 / drawn.extent.prod(axis=0)), drawn.extent[1] / drawn.extent[0]
    for found, most in ((zoom, 1.5), (stretch, 1.2)):
        assert (found.min(), found.max()) == pytest.approx((1 / most, most), rel=0.01)


def test_no_shift_and_no_zoom_is_the_whole_picture():
    """Shares of 0 and factors of 1 leave a picture as it is."""
    drawn = draw_crops(3, np.random.default_rng(0), shift=0.0, zoom=1.0, stretch=1.0)
    assert (drawn.middle == 0.5).all()
    for matrix in drawn.matrices(16, 16):
        assert matrix == pytest.approx(np.broadcast_to(np.eye(16), (3, 16, 16)), abs=1e-6)
