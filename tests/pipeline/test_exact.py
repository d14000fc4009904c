"""Figures are those of the saved model, whatever its features were learned from."""

from dataclasses import replace

import numpy as np
import pytest
from pictures import saved
from small_datasets import dataset_of, noise

from assay.data.resize import to_square
from assay.embed.tiny import TinyBackbone
from assay.pipeline.exact import predicts_exactly

pytest.importorskip("torch")

from assay.embed.backbone import load_backbone  # only where torch is
from assay.train.heads import MLPHead  # the same


@pytest.fixture(scope="module")
def images():
    """Six pictures, one of which cannot be read."""
    return dataset_of([saved(noise(row, 40, 40)) if row != 2 else b"" for row in range(6)])


@pytest.fixture(scope="module")
def squares(images):
    """Those that can, as the network takes them."""
    return np.stack([to_square(np.asarray(noise(row, 40, 40)), 32, "sharp") for row in (0, 1, 3, 4, 5)])


@pytest.fixture
def learned(finished, tmp_path_factory, squares):
    """What was learned from features in a dtype, and the network that gave them."""

    def make(dtype):
        backbone = load_backbone(
            "tf_efficientnet_lite0", tmp_path_factory.mktemp("cache"), size=32, dtype=dtype
        )
        features = backbone.embed(squares)
        head = MLPHead(hidden=0, epochs=3).fit_soft(features, np.eye(3)[[0, 1, 2, 0, 1]]).layers_
        says = np.full((6, 3), 1 / 3)
        says[[0, 1, 3, 4, 5]] = head.probabilities(features)
        return replace(finished.result.learned, head=head, says=lambda rows: says[rows]), backbone

    return make


def test_what_it_says_is_what_the_saved_model_says(images, squares, learned, monkeypatch):
    """In float32, though its features were bfloat16; of an image that cannot be read nothing is changed."""
    monkeypatch.setattr("assay.data.loader.BATCH", 2)
    quick, backbone = learned("bfloat16")
    rows = np.array([0, 2, 3, 5])
    found = predicts_exactly(quick, images, backbone, rows)
    wanted = quick.head.probabilities(backbone.exact().embed(squares[[0, 2, 4]]))
    assert np.allclose(found.says(np.array([0, 3, 5])), wanted, atol=1e-6)
    assert not np.allclose(quick.says(np.array([0, 3, 5])), wanted, atol=1e-6)
    assert np.array_equal(found.says(np.array([2])), quick.says(np.array([2])))
    with pytest.raises(ValueError, match="expected rows that were predicted exactly"):
        found.says(np.array([1]))


def test_what_is_exact_already_stays(images, learned):
    """Features in float32, and a backbone without a dtype."""
    plain, backbone = learned("float32")
    assert predicts_exactly(plain, images, backbone, np.arange(6)) is plain
    assert predicts_exactly(plain, images, TinyBackbone(), np.arange(6)) is plain
