"""A trained model gets the graph that predicts, if it says what the model says."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from small_runs import CLASSES, draw_image

from assay.embed.histogram import HistogramBackbone
from assay.embed.tiny import TinyBackbone
from assay.errors import GateError, MissingExtraError, ModelError
from assay.export.export import Parity, check_parity, with_graph
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.predict.runtime import load_runtime

BACKBONES = {"tiny": TinyBackbone, "histogram": HistogramBackbone}


@pytest.fixture
def images():
    """Twelve drawn images, then black, white, and values at the edges of the histogram's ranges."""
    generator = np.random.default_rng(4)
    drawn = [draw_image(row % 3, generator) for row in range(12)]
    edges = generator.choice(np.array([50, 51, 52, 101, 102, 103, 203, 204, 255], np.uint8), (32, 32, 3))
    plain = [np.full((32, 32, 3), value, np.uint8) for value in (0, 255)]
    return np.stack([*drawn, *plain, edges])


def head_for(width: int, depth: int = 2, **more) -> Layers:
    """Random layers whose answers differ from image to image."""
    generator = np.random.default_rng(5)
    sides = [width, *[16] * (depth - 1), len(CLASSES)]
    weights = []
    for i in range(depth):
        weights += [generator.normal(size=(sides[i], sides[i + 1])), generator.normal(size=sides[i + 1])]
    mean, scale = generator.random(width) / 2, 0.2 + generator.random(width)
    return Layers(*(part.astype(np.float32) for part in (mean, scale)), as_float32(weights), **more)


def as_float32(weights):
    return tuple(part.astype(np.float32) for part in weights)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("more", [{}, {"activation": "relu"}, {"rounded": True}], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_graph_says_what_the_model_says(name, more, depth, images):
    """Backbones without tensors, heads of every depth and kind: the same probabilities."""
    backbone = BACKBONES[name]()
    model = Model(name, 32, CLASSES, head_for(backbone.width, depth, **more))
    exported = with_graph(model, None, images)
    expected = model.probabilities(backbone.embed(images))
    assert load_runtime(exported).probabilities(images) == pytest.approx(expected, abs=1e-4)
    assert exported.facts["parity"]["n"] == len(images)
    assert exported.facts["parity"]["largest_difference"] <= 1e-4
    assert exported.facts["parity"]["same_class"] == 1
    assert replace(exported, graph=b"", facts={}) == model


def test_histogram_counts_are_exact(images):
    """With a head that hands its features through, the logits differ by those of NumPy to the last bit."""
    width = HistogramBackbone().width
    hand_through = (np.eye(width, dtype=np.float32), np.zeros(width, dtype=np.float32))
    head = Layers(np.zeros(width, np.float32), np.ones(width, np.float32), hand_through)
    model = Model("histogram", 32, tuple(map(str, range(width))), head)
    shares = HistogramBackbone().embed(images)
    expected = np.exp(shares) / np.exp(shares).sum(axis=1, keepdims=True)
    found = load_runtime(with_graph(model, None, images)).probabilities(images)
    assert found == pytest.approx(expected, rel=1e-6)


def test_other_sizes_of_the_tiny_backbone(images):
    """The size is the model's, not a fixed one."""
    small = np.ascontiguousarray(images[:, :16, :16])
    model = Model("tiny", 16, CLASSES, head_for(TinyBackbone(16).width))
    exported = with_graph(model, None, small)
    expected = model.probabilities(TinyBackbone(16).embed(small))
    assert load_runtime(exported).probabilities(small) == pytest.approx(expected, abs=1e-4)


def test_a_graph_of_another_model_is_refused(images):
    """The gate names both figures, and what they should have been."""
    one, other = (Model("tiny", 32, CLASSES, head_for(384, depth)) for depth in (1, 2))
    mixed = replace(one, graph=with_graph(other, None, images).graph)
    message = (
        r"^the exported model is not the trained one: of 15 images expected the same class for 99.9% and "
        r"probabilities within 0.001, got \d+\.\d% and [01]\.\d{4}; please report the backbone tiny$"
    )
    with pytest.raises(GateError, match=message):
        check_parity(mixed, TinyBackbone().embed(images), images)


def test_parity_is_counted_on_the_images_given(images):
    """As many as there are, and none is no reason to refuse."""
    model = with_graph(Model("tiny", 32, CLASSES, head_for(384)), None, images[:0])
    assert model.facts["parity"] == {"n": 0, "largest_difference": 0.0, "same_class": 1.0}
    found = check_parity(model, TinyBackbone().embed(images[:3]), images[:3])
    assert isinstance(found, Parity)
    assert found.n == 3


def test_a_score_between_two_whole_numbers_may_be_rounded_either_way(images):
    """Where the last bits decide, a rounded head is not held to them; elsewhere it is."""
    even = Layers(
        np.zeros(384, np.float32),
        np.ones(384, np.float32),
        (np.zeros((384, 3), np.float32), np.array([0.5, 2, 7], np.float32)),
        rounded=True,
    )
    model = Model("tiny", 32, CLASSES, even)
    nudged = replace(even, weights=(even.weights[0], even.weights[1] + np.float32(1e-5)))
    mixed = replace(model, graph=with_graph(replace(model, head=nudged), None, images).graph)
    assert check_parity(mixed, TinyBackbone().embed(images), images).same_class == 1
    apart = replace(even, weights=(even.weights[0], np.array([0.5, 2, 9], np.float32)))
    far = replace(model, head=replace(apart, weights=(apart.weights[0], apart.weights[1] + np.float32(0.2))))
    with pytest.raises(GateError, match=r"^the exported model is not the trained one"):
        check_parity(replace(far, graph=mixed.graph), TinyBackbone().embed(images), images)


def test_a_trunk_is_needed_where_there_are_tensors(images):
    """A name that is no backbone of ours has to bring its network."""
    with pytest.raises(ModelError, match=r"^expected the trunk of 'conv', got none$"):
        with_graph(Model("conv", 32, CLASSES, head_for(15)), None, images)


def test_a_head_for_other_features_is_refused(images):
    """A head that does not belong to its backbone is found before anything is exported."""
    message = r"^expected 15 features, as the head has, got 384 of the trunk of 'tiny'$"
    with pytest.raises(ModelError, match=message):
        with_graph(Model("tiny", 32, CLASSES, head_for(15)), None, images)


def test_without_onnx_the_install_line_is_said(images, monkeypatch):
    """Exporting needs the train extra; predicting does not."""
    for name in [name for name in sys.modules if name.startswith("assay.export.graph")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        MissingExtraError, match=r"onnx, which is not installed: .* pip install '\.\[train\]'"
    ):
        with_graph(Model("tiny", 32, CLASSES, head_for(384)), None, images)
