import numpy as np
import pytest

pytest.importorskip("torch")

from assay.data.resize import to_square  # only where torch is
from assay.embed.backbone import TimmBackbone
from assay.learn.pixels import to_pixels  # the same

pytestmark = pytest.mark.train


@pytest.mark.parametrize("interpolation", ["sharp", "bicubic"])
@pytest.mark.parametrize("size", [16, 24, 36, 96])
def test_what_learns_sees_what_predicting_sees(interpolation, size):
    """Shrunk, as they are, enlarged a little and a lot: the squares of ``to_square``, normalised.

    Of colours that stay within a byte: Pillow clips more often.
    """
    images = np.random.default_rng(0).integers(96, 160, (3, 24, 24, 3), np.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.2, 0.1)
    backbone = TimmBackbone(
        "none",
        size,
        1,
        "",
        "file",
        mean,
        std,
        plan=None,
        network=None,
        prepared=(),
        interpolation=interpolation,
    )
    found = to_pixels(backbone)(images.astype(np.float32)).numpy().transpose(0, 2, 3, 1)
    squares = np.stack([to_square(image, size, interpolation) for image in images])
    shades = 255 * (found * np.array(std) + np.array(mean))
    assert shades.shape == (3, size, size, 3)
    # Half a shade for each time that bytes are made of numbers, twice as much where it is sharpened after.
    assert np.abs(shades - squares).max() < 3.1
    assert np.abs(shades - squares).mean() < 0.7
