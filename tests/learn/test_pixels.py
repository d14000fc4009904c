import numpy as np
import pytest

pytest.importorskip("torch")

from assay.data.resize import to_square
from assay.embed.backbone import TimmBackbone
from assay.learn.pixels import to_pixels

pytestmark = pytest.mark.train

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.2, 0.1)


@pytest.mark.parametrize(("interpolation", "most"), [("bicubic", 1.1), ("sharp", 3.1)])
@pytest.mark.parametrize("size", [13, 16, 24, 32, 36, 96])
def test_what_learns_sees_what_predicting_sees(interpolation, most, size):
    """Shrunk, as they are, enlarged a little and a lot: the squares of ``to_square``, normalised.

    Up to the rounding to bytes that Pillow does after each direction, and sharpening adds to; of colours
    that stay within a byte, for Pillow clips more often.
    """
    images = np.random.default_rng(0).integers(96, 160, (3, 24, 24, 3), np.uint8)
    none = (None, None, ())  # no plan, no network
    backbone = TimmBackbone("none", size, 1, "", "file", MEAN, STD, *none, "stages", interpolation)
    found = to_pixels(backbone)(images.astype(np.float32)).numpy().transpose(0, 2, 3, 1)
    squares = np.stack([to_square(image, size, interpolation) for image in images])
    shades = 255 * (found * np.array(STD) + np.array(MEAN))
    assert shades.shape == (3, size, size, 3)
    assert np.abs(shades - squares).max() < most
    assert np.abs(shades - squares).mean() < 0.7
