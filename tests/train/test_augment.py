"""Random changes and crops of images, and what a network in training sees of them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the train extra")

from assay.data.resize import to_square  # noqa: E402  # after torch is known to be there
from assay.embed.backbone import TimmBackbone  # noqa: E402  # the same
from assay.embed.device import Plan  # noqa: E402  # the same
from assay.train.augment import Augment, Crops, compress, soften  # noqa: E402  # the same
from assay.train.student import bicubic, network_input, softened  # noqa: E402  # the same

pytestmark = pytest.mark.train

NOTHING = Augment(compressed=0.0, blurred=0.0, light=0.0, hidden=0.0)


@pytest.fixture
def images() -> np.ndarray:
    """Eight gradients, so that a JPEG of them is like them; not symmetric."""
    ramp = np.arange(32, dtype=np.uint8) * 4
    picture = np.stack([np.broadcast_to(ramp, (32, 32)), np.broadcast_to(ramp[:, None], (32, 32))], axis=2)
    return np.stack([np.dstack([picture, np.full((32, 32), 9 * i, np.uint8)]) for i in range(8)])


def test_without_any_step_an_image_is_itself_or_its_mirror(images):
    """A share of 0 leaves a step out; only the mirror has no share."""
    found = NOTHING(images, np.random.default_rng(0))
    plain = [np.array_equal(seen, image) for seen, image in zip(found, images, strict=True)]
    mirrored = [np.array_equal(seen, image[:, ::-1]) for seen, image in zip(found, images, strict=True)]
    assert np.logical_xor(plain, mirrored).all()
    assert any(plain)
    assert any(mirrored)


def test_the_same_generator_gives_the_same_images(images):
    """All chance comes from the generator; the input stays as it was."""
    before = images.copy()
    one, again, other = (Augment()(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(images, before)


def test_the_strongest_steps_give_images(images):
    """float32 from 0 to 255, of the same shape; a hidden square is no larger than its side."""
    strong = Augment(compressed=1.0, quality=(1, 5), blurred=1.0, light=1.0, hidden=1.0, square=1.0)
    found = strong(images, np.random.default_rng(0))
    assert (found.shape, found.dtype) == (images.shape, np.float32)
    assert 0 <= found.min() < found.max() <= 255
    hiding = replace(NOTHING, hidden=1.0, square=0.25)
    hidden = (hiding(images, np.random.default_rng(0)) == 127.5).all(axis=3).sum(axis=(1, 2))
    assert (hidden > 0).all()
    assert (hidden <= 8 * 8).all()


def test_damage_grows_with_its_strength(images):
    """A lower quality is further from the image and a softer image has less detail; the shape stays."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    losses = [np.abs(compress(picture, quality).astype(int) - picture).mean() for quality in (90, 50, 10)]
    assert 0 < losses[0] < losses[1] < losses[2]
    assert {soften(picture, strength).shape for strength in (0.0, 0.49, 0.5, 0.99)} == {picture.shape}
    assert soften(picture, 0.49).std() < soften(picture, 0.0).std() < picture.std()
    assert soften(picture, 0.99).std() < picture.std()


def crop(middle: tuple[float, float] = (0.5, 0.5), extent: tuple[float, float] = (1.0, 1.0)) -> Crops:
    return Crops(np.array(middle)[:, None], np.array(extent)[:, None])


def applied(picture: np.ndarray, size: int, what: Crops) -> np.ndarray:
    """One plane through the crop."""
    down, right = (matrix[0] for matrix in what.matrices(len(picture), size))
    return down @ picture @ right.T


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (24, 24)).astype(np.float32)


@pytest.mark.parametrize("size", [11, 24, 36, 96])
def test_the_whole_image_is_resized_as_by_pillow(picture, size):
    """But for the border, outside of which Pillow has nothing and a crop the mirror image."""
    pillow = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
    found, edge = applied(picture, size, crop()), -(-3 * size // 24) + 1
    assert found.shape == (size, size)
    assert found[edge:-edge, edge:-edge] == pytest.approx(pillow[edge:-edge, edge:-edge], abs=0.01)


def test_a_crop_is_pillows_box(picture):
    """Three quarters of the height from a quarter of it on, and half of the width."""
    found = applied(picture, 48, crop((0.625, 0.5), (0.75, 0.5)))
    boxed = Image.fromarray(picture).resize((48, 48), Image.Resampling.BICUBIC, box=(6, 6, 18, 24))
    assert found[8:-8, 12:-12] == pytest.approx(np.asarray(boxed)[8:-8, 12:-12], abs=0.01)


@pytest.mark.parametrize(("down", "right"), [(0, 5), (-7, 0), (20, -20)])
def test_the_image_is_mirrored_outside(picture, down, right):
    """By whole pixels, NumPy's ``reflect``, once and again."""
    wide = np.pad(picture, 48, mode="reflect")
    shifted = wide[48 + down : 72 + down, 48 + right : 72 + right]
    found = applied(picture, 24, crop((0.5 + down / 24, 0.5 + right / 24)))
    assert found == pytest.approx(shifted, abs=1e-3)


@pytest.mark.parametrize(("side", "size"), [(1, 8), (2, 8), (8, 3)])
def test_one_colour_stays_that_colour(side, size):
    """Wherever the crop lies, however small the image is."""
    what = Augment(shift=0.5, zoom=3.0, stretch=2.0).crops(20, np.random.default_rng(0))
    for matrix in what.matrices(side, size):
        assert matrix.shape == (20, size, side)
        assert matrix.sum(axis=2) == pytest.approx(np.ones((20, size)), abs=1e-5)


def test_crops_use_all_of_what_is_allowed():
    """Shift, zoom and stretch reach their limits and no further; none of them is the whole image."""
    drawn = Augment(shift=0.1, zoom=1.5, stretch=1.2).crops(500, np.random.default_rng(0))
    assert np.abs(drawn.middle - 0.5).max() == pytest.approx(0.1, abs=0.01)
    zoom, stretch = np.sqrt(1 / drawn.extent.prod(axis=0)), drawn.extent[1] / drawn.extent[0]
    for found, most in ((zoom, 1.5), (stretch, 1.2)):
        assert (found.min(), found.max()) == pytest.approx((1 / most, most), rel=0.01)
    still = Augment(shift=0.0, zoom=1.0, stretch=1.0).crops(3, np.random.default_rng(0))
    assert (still.middle == 0.5).all()
    for matrix in still.matrices(16, 16):
        assert matrix == pytest.approx(np.broadcast_to(np.eye(16), (3, 16, 16)), abs=1e-6)


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
