"""Pictures changed by chance keep their shape, their range and their class."""

from dataclasses import replace

import numpy as np
import pytest

from assay.train.augment import Augment, compress, soften

NOTHING = Augment(compressed=0.0, blurred=0.0, light=0.0, hidden=0.0)


@pytest.fixture
def images() -> np.ndarray:
    """Eight gradients, so that a JPEG of them is like them; not symmetric."""
    ramp = np.arange(32, dtype=np.uint8) * 4
    picture = np.stack([np.broadcast_to(ramp, (32, 32)), np.broadcast_to(ramp[:, None], (32, 32))], axis=2)
    return np.stack([np.dstack([picture, np.full((32, 32), 9 * i, np.uint8)]) for i in range(8)])


def test_with_all_steps_left_out_an_image_is_itself_or_its_mirror(images):
    """A share of 0 leaves a step out; only the mirror has no share."""
    found = NOTHING(images, np.random.default_rng(0))
    plain = [np.array_equal(seen, image) for seen, image in zip(found, images, strict=True)]
    mirrored = [np.array_equal(seen, image[:, ::-1]) for seen, image in zip(found, images, strict=True)]
    assert np.logical_xor(plain, mirrored).all()
    assert any(plain)
    assert any(mirrored)


def test_the_same_chance_gives_the_same_images(images):
    """All chance comes from the generator; the images that came in stay as they were."""
    before = images.copy()
    one, again, other = (Augment()(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(images, before)


def test_what_comes_out_is_a_picture(images):
    """float32 from 0 to 255, of the same shape, however strong the steps are."""
    strong = Augment(compressed=1.0, quality=(1, 5), blurred=1.0, light=1.0, hidden=1.0, square=1.0)
    found = strong(images, np.random.default_rng(0))
    assert (found.shape, found.dtype) == (images.shape, np.float32)
    assert found.min() >= 0
    assert found.max() <= 255


def test_a_square_is_hidden(images):
    """Of every image when the share is 1, and no more than the square's own pixels."""
    hiding = replace(NOTHING, hidden=1.0, square=0.25)
    hidden = (hiding(images, np.random.default_rng(0)) == 127.5).all(axis=3).sum(axis=(1, 2))
    assert (hidden > 0).all()
    assert (hidden <= 8 * 8).all()


def test_what_is_seen_is_drawn_as_it_was_asked_for():
    """Shift, zoom and stretch; the chance is the generator's."""
    far = Augment(shift=0.25, zoom=2.0, stretch=1.0).crops(300, np.random.default_rng(0))
    assert np.abs(far.middle - 0.5).max() == pytest.approx(0.25, abs=0.01)
    assert (far.extent.min(), far.extent.max()) == pytest.approx((0.5, 2.0), rel=0.02)
    assert np.array_equal(far.extent[0], far.extent[1])


def test_a_lower_quality_is_further_from_the_image(images):
    """And a softer image has less detail; both keep the shape."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    losses = [np.abs(compress(picture, quality).astype(int) - picture).mean() for quality in (90, 50, 10)]
    assert losses == sorted(losses)
    assert losses[0] > 0
    assert compress(images[0], 50).shape == images[0].shape
    for strength in (0.0, 0.49, 0.5, 0.99):
        assert soften(picture, strength).shape == picture.shape
    assert soften(picture, 0.49).std() < soften(picture, 0.0).std() < picture.std()
    assert soften(picture, 0.99).std() < picture.std()
