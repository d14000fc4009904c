import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from assay.data.resize import to_square
from assay.embed.backbone import TimmBackbone
from assay.train.crops import Crops
from assay.train.pixels import bicubic, softened, to_pixels

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


@pytest.mark.parametrize("interpolation", ["bicubic", "sharp"])
@pytest.mark.parametrize("size", [16, 24, 48])
def test_each_image_is_seen_through_its_own_window(interpolation, size):
    """Its own matrices, one down and another right; sharpened like a whole picture."""
    images = np.random.default_rng(0).uniform(96, 160, (3, 24, 24, 3)).astype(np.float32)
    crops = Crops(np.array([[0.5, 0.4, 0.6], [0.5, 0.7, 0.5]]), np.array([[1.0, 0.9, 1.1], [1.0, 1.2, 0.8]]))
    none = (None, None, ())  # no plan, no network
    backbone = TimmBackbone("none", size, 1, "", "file", MEAN, STD, *none, "stages", interpolation)
    found = to_pixels(backbone)(images, crops).numpy().transpose(0, 2, 3, 1)
    share = 1.0 if interpolation == "sharp" and size == 48 else 0.0

    def blur(matrix):
        return softened(torch.from_numpy(matrix), size / 24).numpy()

    for shown, image, down, right in zip(found, images, *crops.matrices(24, size), strict=True):
        plain, soft = (
            np.einsum("yv,vuc,xu->yxc", one, image, other)
            for one, other in ((down, right), (blur(down), blur(right)))
        )
        wanted = np.clip((1 + share) * plain - share * soft, 0, 255)
        assert 255 * (shown * np.array(STD) + np.array(MEAN)) == pytest.approx(wanted, abs=0.01)


def test_a_softened_column_is_the_mean_of_its_surroundings():
    """Of one matrix and of several: what is enlarged twice, over two pixels each way and half of the next."""
    one = bicubic(8, 16)
    wide = np.pad(one.numpy(), ((2, 2), (0, 0)), mode="edge")
    weights = (0.5, 1.0, 1.0, 1.0, 0.5)
    mean = sum(weight * wide[place : place + 16] for place, weight in enumerate(weights)) / 4
    assert softened(one, 2.0).numpy() == pytest.approx(mean, abs=1e-5)
    both = softened(one.repeat(2, 1, 1), 2.0).numpy()
    assert both == pytest.approx(np.stack([mean, mean]), abs=1e-5)
