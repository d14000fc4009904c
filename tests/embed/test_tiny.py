import re

import numpy as np
import pytest

from assay.embed.tiny import TinyBackbone
from assay.errors import UsageError
from assay.types import Backbone


def images(number: int, size: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, size, size, 3), np.uint8)


@pytest.mark.parametrize(("size", "blocks"), [(32, 8), (16, 4), (6, 1), (4, 4)])
def test_features_are_the_mean_and_spread_of_each_block(size, blocks):
    """The fast form equals a loop over blocks: red, green and blue means, then their spreads."""
    batch, side = images(3, size), size // blocks
    backbone = TinyBackbone(size, blocks)
    for image, features in zip(batch, backbone.embed(batch), strict=True):
        expected = []
        for y in range(0, size, side):
            for x in range(0, size, side):
                block = image[y : y + side, x : x + side].reshape(-1, 3) / 255
                expected += [*block.mean(axis=0), *block.std(axis=0)]
        assert features == pytest.approx(np.array(expected), abs=1e-6)


def test_it_keeps_the_contract_of_a_backbone():
    """Width, dtype and an empty batch are as every caller expects."""
    backbone = TinyBackbone()
    assert isinstance(backbone, Backbone)
    assert backbone.name == "tiny"
    assert backbone.embed(images(2, 32)).dtype == np.float32
    assert backbone.embed(images(0, 32)).shape == (0, backbone.width)


def test_an_image_alone_has_the_features_that_it_has_in_company():
    """The rest of a batch does not matter."""
    batch, backbone = images(5, 32), TinyBackbone()
    alone = np.concatenate([backbone.embed(batch[row : row + 1]) for row in range(5)])
    assert np.array_equal(backbone.embed(batch), alone)


def test_the_digest_tells_sizes_and_blocks_apart():
    """Features of different meaning never share a folder of the cache."""
    kinds = [TinyBackbone(), TinyBackbone(size=64), TinyBackbone(blocks=4), TinyBackbone(size=16, blocks=4)]
    assert len({kind.digest for kind in kinds}) == len(kinds)
    assert TinyBackbone().digest == TinyBackbone().digest


def test_a_size_that_does_not_divide_is_refused():
    """Blocks of unequal size would mean different things."""
    message = "tiny backbone: expected a size that is a multiple of 8, got 30"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        TinyBackbone(size=30)
