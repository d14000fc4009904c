import numpy as np
import pytest
from pictures import saved
from PIL import Image
from small_datasets import dataset_of, noise

from assay.data import loader
from assay.embed.images import embed_images
from assay.embed.pixels import PixelBackbone
from assay.types import Backbone


class Enlarged(PixelBackbone):
    """Pixels of squares that are made without mixing colours."""

    interpolation = "nearest"


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(loader, "BATCH", 4)


def pixels_of(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pictures])


@pytest.mark.parametrize("size", [32, 5])
def test_images_come_back_from_the_cache(tmp_path, size):
    """Every value of every pixel is what it was, cold and warm, and mirrored in the second view."""
    every = np.resize(np.arange(256, dtype=np.uint8), (size, size, 3))
    pictures = [*(noise(seed, size, size) for seed in range(8)), Image.fromarray(every)]
    dataset, images = dataset_of([saved(picture) for picture in pictures]), pixels_of(pictures)
    for computed in (9, 0):
        features = embed_images(dataset, PixelBackbone(size), tmp_path)
        assert features.computed == computed
        plain, mirrored = (view.reshape(-1, size, size, 3) for view in features.views)
        assert np.array_equal(plain, images)
        assert np.array_equal(mirrored, images[:, :, ::-1])


def test_squares_are_made_as_the_backbone_asks(tmp_path):
    """A picture of 32 pixels at 128 is each of its pixels 16 times, or smooth."""
    pictures = [noise(seed, 32, 32) for seed in range(6)]
    dataset = dataset_of([saved(picture) for picture in pictures])
    wanted = pixels_of(pictures).repeat(4, axis=1).repeat(4, axis=2).reshape(6, -1)
    blocks, smooth = (
        embed_images(dataset, backbone, tmp_path / str(number), mirrored=False).views[0]
        for number, backbone in enumerate((Enlarged(128), PixelBackbone(128)))
    )
    assert np.array_equal(blocks, wanted)
    assert not np.array_equal(smooth, wanted)


def test_it_keeps_the_contract_of_a_backbone():
    """Width, dtype, digest and an empty batch are as every caller expects."""
    backbone = PixelBackbone()
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.size, backbone.width) == ("pixels", 32, 3072)
    assert backbone.interpolation == "bicubic"
    empty = backbone.embed(np.zeros((0, 32, 32, 3), np.uint8))
    assert (empty.shape, empty.dtype) == ((0, 3072), np.float32)
    assert backbone.digest == PixelBackbone(32).digest != PixelBackbone(64).digest
