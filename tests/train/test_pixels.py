"""The network's input in training is that of prediction."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from assay.data.resize import to_square  # noqa: E402  # after torch is known to be there
from assay.embed.backbone import TimmBackbone  # noqa: E402  # the same
from assay.embed.device import Plan  # noqa: E402  # the same
from assay.train.augment import Crops  # noqa: E402  # the same
from assay.train.pixels import bicubic, network_input, softened  # noqa: E402  # the same

pytestmark = pytest.mark.train

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.2, 0.1)


def backbone(size: int, interpolation: str) -> TimmBackbone:
    """Size, mean and spread, and no network."""
    plan = Plan("float32", "contiguous", 1)
    return TimmBackbone("none", size, 1, "", "file", MEAN, STD, plan, None, (), "stages", interpolation)


@pytest.mark.parametrize(("interpolation", "most"), [("bicubic", 1.1), ("sharp", 3.1)])
@pytest.mark.parametrize("size", [13, 24, 32, 96])
def test_training_sees_what_prediction_sees(interpolation, most, size):
    """Shrunk, as they are, enlarged a little and a lot: the images of ``to_square``, normalised.

    Up to Pillow's rounding to bytes after each direction, which sharpening adds to; of colours that stay
    within a byte, for Pillow clips more often.
    """
    images = np.random.default_rng(0).integers(96, 160, (3, 24, 24, 3), np.uint8)
    found = network_input(backbone(size, interpolation), images.astype(np.float32))
    shades = 255 * (found.numpy().transpose(0, 2, 3, 1) * np.array(STD) + np.array(MEAN))
    resized_images = np.stack([to_square(image, size, interpolation) for image in images])
    assert shades.shape == (3, size, size, 3)
    assert np.abs(shades - resized_images).max() < most
    assert np.abs(shades - resized_images).mean() < 0.7


@pytest.mark.parametrize("interpolation", ["bicubic", "sharp"])
@pytest.mark.parametrize("size", [16, 24, 48])
def test_each_image_has_its_own_crop(interpolation, size):
    """Its own matrices, one down and another right; sharpened like a whole image."""
    images = np.random.default_rng(0).uniform(96, 160, (3, 24, 24, 3)).astype(np.float32)
    crops = Crops(np.array([[0.5, 0.4, 0.6], [0.5, 0.7, 0.5]]), np.array([[1.0, 0.9, 1.1], [1.0, 1.2, 0.8]]))
    found = network_input(backbone(size, interpolation), images, crops).numpy().transpose(0, 2, 3, 1)
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


def test_a_softened_column_is_the_mean_of_its_neighbours():
    """Of one matrix and of several: for a doubled image, two pixels each way and half of the next."""
    one = bicubic(8, 16)
    wide = np.pad(one.numpy(), ((2, 2), (0, 0)), mode="edge")
    weights = (0.5, 1.0, 1.0, 1.0, 0.5)
    mean = sum(weight * wide[place : place + 16] for place, weight in enumerate(weights)) / 4
    assert softened(one, 2.0).numpy() == pytest.approx(mean, abs=1e-5)
    both = softened(one.repeat(2, 1, 1), 2.0).numpy()
    assert both == pytest.approx(np.stack([mean, mean]), abs=1e-5)
