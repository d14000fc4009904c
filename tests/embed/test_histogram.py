import numpy as np
import pytest

from assay.embed.histogram import HistogramBackbone
from assay.types import Backbone


def by_numpy(image: np.ndarray, bins: int) -> np.ndarray:
    """The notebook's way: each channel through ``np.histogram``, side by side, as shares."""
    edges = np.linspace(0, 255, bins + 1)
    counts = [np.histogram(image[:, :, channel], bins=edges)[0] for channel in range(3)]
    return np.concatenate(counts).astype(np.float32) / np.float32(image[:, :, 0].size)


@pytest.mark.parametrize("bins", [5, 1, 2, 3, 4, 7, 16, 255])
def test_every_value_falls_where_numpy_puts_it(bins):
    """All 256 values, those on the edges and the last included, are counted as by ``np.histogram``."""
    every = np.arange(256, dtype=np.uint8)
    batch = np.repeat(every, 4 * 3).reshape(256, 2, 2, 3)
    found = HistogramBackbone(size=2, bins=bins).embed(batch)
    assert np.array_equal(found, [by_numpy(image, bins) for image in batch])


def test_pictures_are_counted_as_by_numpy():
    """Each channel of a picture has its own shares."""
    batch = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    batch[:, :, :, 1] //= 2
    backbone = HistogramBackbone()
    assert backbone.embed(batch) == pytest.approx(np.array([by_numpy(image, 5) for image in batch]), abs=1e-7)


def test_the_shares_of_each_channel_sum_to_one():
    """No pixel is lost and none counted twice."""
    batch = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
    sums = HistogramBackbone().embed(batch).reshape(4, 3, 5).sum(axis=2)
    assert sums == pytest.approx(np.ones((4, 3)), abs=1e-6)


def test_it_keeps_the_contract_of_a_backbone():
    """Width, dtype, digest and an empty batch are as every caller expects."""
    backbone = HistogramBackbone()
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.width) == ("histogram", 15)
    empty = backbone.embed(np.zeros((0, 32, 32, 3), np.uint8))
    assert (empty.shape, empty.dtype) == ((0, 15), np.float32)
    kinds = [backbone, HistogramBackbone(size=64), HistogramBackbone(bins=6)]
    assert len({kind.digest for kind in kinds}) == 3
