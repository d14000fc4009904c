"""The backbones that need no network: block statistics and colour histograms."""

import re

import numpy as np
import pytest

from assay.embed.tiny import HistogramBackbone, TinyBackbone
from assay.errors import UsageError
from assay.types import Backbone


def images(number: int, size: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, size, size, 3), np.uint8)


@pytest.mark.parametrize(("size", "blocks"), [(32, 8), (16, 4), (6, 1), (4, 4)])
def test_tiny_features_are_the_mean_and_spread_of_each_block(size, blocks):
    """The fast form equals a loop over blocks: red, green and blue means, then their spreads."""
    batch, side = images(3, size), size // blocks
    for image, features in zip(batch, TinyBackbone(size, blocks).embed(batch), strict=True):
        expected = []
        for y in range(0, size, side):
            for x in range(0, size, side):
                block = image[y : y + side, x : x + side].reshape(-1, 3) / 255
                expected += [*block.mean(axis=0), *block.std(axis=0)]
        assert features == pytest.approx(np.array(expected), abs=1e-6)


def by_numpy(image: np.ndarray, bins: int) -> np.ndarray:
    """The notebook's way: each channel through ``np.histogram``, side by side, as shares."""
    edges = np.linspace(0, 255, bins + 1)
    counts = [np.histogram(image[:, :, channel], bins=edges)[0] for channel in range(3)]
    return np.concatenate(counts).astype(np.float32) / np.float32(image[:, :, 0].size)


@pytest.mark.parametrize("bins", [5, 1, 3, 16, 255])
def test_histograms_count_as_numpy_does(bins):
    """All 256 values, those on the edges and the last included, and each channel of a picture by itself."""
    every = np.repeat(np.arange(256, dtype=np.uint8), 4 * 3).reshape(256, 2, 2, 3)
    found = HistogramBackbone(size=2, bins=bins).embed(every)
    assert np.array_equal(found, [by_numpy(image, bins) for image in every])
    batch = images(6, 32)
    batch[:, :, :, 1] //= 2
    wanted = np.array([by_numpy(image, bins) for image in batch])
    assert HistogramBackbone(bins=bins).embed(batch) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        ([TinyBackbone(), TinyBackbone(64), TinyBackbone(blocks=4), TinyBackbone(16, 4)], "tiny"),
        ([HistogramBackbone(), HistogramBackbone(64), HistogramBackbone(bins=6)], "histogram"),
    ],
)
def test_they_keep_the_contract_of_a_backbone(kinds, name):
    """Width, dtype, an empty batch, an image alone as in company; each kind has a digest of its own."""
    backbone, batch = kinds[0], images(5, 32)
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.embed(batch).dtype) == (name, np.float32)
    assert backbone.embed(batch[:0]).shape == (0, backbone.width)
    alone = np.concatenate([backbone.embed(batch[row : row + 1]) for row in range(5)])
    assert np.array_equal(backbone.embed(batch), alone)
    assert len({kind.digest for kind in kinds}) == len(kinds)


def test_a_size_that_does_not_divide_is_refused():
    """Blocks of unequal size would mean different things."""
    message = "tiny backbone: expected a size that is a multiple of 8, got 30"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        TinyBackbone(size=30)
