from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from assay.notebook.layers import MOST_GROUPS, describe_layers, draw_layers
from assay.predict.layers import Layers
from assay.predict.model import Model


def zeros(*shape):
    return np.zeros(shape, dtype=np.float32)


def head(*widths, **options):
    """A head of linear layers through these widths."""
    weights = [part for i, o in pairwise(widths) for part in (zeros(i, o), zeros(o))]
    return Layers(zeros(widths[0]), zeros(widths[0]) + 1, tuple(weights), **options)


LITE = {
    "blocks.10.conv_dw.weight": zeros(8, 1, 3, 3),
    "conv_head.weight": zeros(40, 8, 1, 1),
    "blocks.2.conv_dw.weight": zeros(8, 1, 3, 3),
    "blocks.2.conv_pw.weight": zeros(8, 8, 1, 1),
    "bn1.weight": zeros(4),
    "bn1.num_batches_tracked": np.array(3),
    "conv_stem.weight": zeros(4, 3, 3, 3),
}
"""In no order, as safetensors gives them."""


@pytest.fixture
def model():
    return Model(
        architecture="tf_efficientnet_lite0",
        size=128,
        labels=("a", "b", "c"),
        head=head(16, 6, 3, activation="relu"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        backbone=LITE,
        interpolation="nearest",
        features="map",
    )


def test_layers_go_from_the_image_to_the_probabilities(model):
    """Each part of backbone and head is one layer, in the order of the network, with shape and size."""
    found = [(layer.name, layer.shape, layer.parameters) for layer in describe_layers(model)]
    assert found == [
        ("image, resized (nearest neighbour)", "128 × 128 × 3", 0),
        ("normalise: (pixel / 255 − mean) / std", "128 × 128 × 3", 0),
        ("tf_efficientnet_lite0: conv_stem", "3 × 3, 4 channels", 108),
        ("tf_efficientnet_lite0: bn1", "", 4),
        ("tf_efficientnet_lite0: blocks.2", "", 136),
        ("tf_efficientnet_lite0: blocks.10", "3 × 3, 8 channels", 72),
        ("tf_efficientnet_lite0: conv_head", "1 × 1, 40 channels", 320),
        ("features: last map, flattened", "16", 0),
        ("standardise", "16", 32),
        ("dense, ReLU", "6", 102),
        ("dense", "3", 21),
        ("softmax", "P(class), 3", 0),
    ]


def test_the_picture_says_the_same(seen, model):
    """Every layer is written in the picture, and read out in the description."""
    found = seen(draw_layers(model, title="Model I: layers"))
    for layer in describe_layers(model):
        assert layer.name in found.texts
        assert layer.name in found.description
    assert found.title == "Model I: layers"
    assert found.description.endswith("dense (3), 21 numbers; softmax (P(class), 3). 795 numbers in all.")


def test_the_order_of_the_file_does_not_count(model):
    """The same tensors in another order draw the same bytes."""
    turned = replace(model, backbone=dict(reversed(LITE.items())))
    assert draw_layers(turned) == draw_layers(model)


def test_rounding_is_a_layer(model):
    """A model whose graph rounds its scores shows it before the softmax."""
    names = [layer.name for layer in describe_layers(replace(model, facts={"rounded": True}))]
    assert names[-3:] == ["dense", "round to whole numbers", "softmax"]


def test_a_backbone_without_weights_is_one_layer(model):
    """Colour histograms have nothing to learn, and no normalisation."""
    plain = replace(model, architecture="histogram", backbone={}, mean=(), std=(), interpolation="bicubic")
    assert [layer.name for layer in describe_layers(plain)][:3] == [
        "image, resized (bicubic)",
        "histogram: fixed features, nothing to learn",
        "standardise",
    ]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([f"blocks.{i}.weight" for i in range(MOST_GROUPS + 1)], ["blocks"]),
        ([f"part{i}.weight" for i in range(MOST_GROUPS + 1)], ["all parts"]),
        (["bn1.weight", "layer1.0.weight", "conv1.weight"], ["conv1", "bn1", "layer1.0"]),
        (["norm.weight", "blocks.0.weight", "cls_token", "patch_embed.proj.weight"],
         ["cls_token", "patch_embed", "blocks.0", "norm"]),
        (["head.norm.weight", "stem.0.weight", "stages.0.weight"], ["stem.0", "stages.0", "head"]),
    ],
)  # fmt: skip  # a table reads better in two columns
def test_parts_are_named_as_far_as_there_is_room(model, names, parts):
    """A deep network is drawn by its outer parts; what comes first and last is told by its name."""
    backbone = {name: zeros(2, 2) for name in names}
    found = [layer.name for layer in describe_layers(replace(model, backbone=backbone))]
    assert found[2 : 2 + len(parts)] == [f"tf_efficientnet_lite0: {part}" for part in parts]
    assert len(found) == 2 + len(parts) + 5
