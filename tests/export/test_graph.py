"""The ONNX file of a model: what it computes, what it holds, and when it is refused."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_runs import CLASSES, draw_image

from assay import __version__
from assay.correct.outliers import fit_scorer
from assay.embed.tiny import HistogramBackbone, TinyBackbone
from assay.errors import GateError, ModelError
from assay.export.graph import build_graph, check_parity, with_graph, without_outlier_score
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.predict.runtime import load_runtime

BACKBONES = {"tiny": TinyBackbone, "histogram": HistogramBackbone}


@pytest.fixture(scope="module")
def images():
    """Twelve drawn images, then black, white, and values at the edges of the histogram's ranges."""
    generator = np.random.default_rng(4)
    drawn = [draw_image(row % 3, generator) for row in range(12)]
    edges = generator.choice(np.array([50, 51, 52, 101, 102, 103, 203, 204, 255], np.uint8), (32, 32, 3))
    plain = [np.full((32, 32, 3), value, np.uint8) for value in (0, 255)]
    return np.stack([*drawn, *plain, edges])


def head_for(width: int, depth: int = 2, **more) -> Layers:
    """Random layers whose predictions differ from image to image."""
    generator = np.random.default_rng(5)
    sides = [width, *[16] * (depth - 1), len(CLASSES)]
    weights = []
    for i in range(depth):
        weights += [generator.normal(size=(sides[i], sides[i + 1])), generator.normal(size=sides[i + 1])]
    parts = generator.random(width) / 2, 0.2 + generator.random(width), *weights
    mean, scale, *weights = (part.astype(np.float32) for part in parts)
    return Layers(mean, scale, tuple(weights), **more)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize(("depth", "more"), [(1, {}), (2, {}), (2, {"activation": "relu"}), (3, {})], ids=str)
def test_the_graph_predicts_what_the_model_predicts(name, depth, more, images):
    """Backbones without tensors and heads of every kind give the same probabilities; the parity is kept."""
    backbone = BACKBONES[name]()
    model = Model(name, 32, CLASSES, head_for(backbone.width, depth, **more))
    exported = with_graph(model, None, images)
    expected = model.probabilities(backbone.embed(images))
    assert load_runtime(exported).probabilities(images) == pytest.approx(expected, abs=1e-4)
    parity = exported.facts["parity"]
    assert (parity["n"], parity["same_class"], parity["largest_difference"] <= 1e-4) == (15, 1, True)
    assert replace(exported, graph=b"", facts={}) == model


def test_histogram_counts_are_exact(images):
    """With a head that passes its features on, the logits differ from NumPy's by the last bit at most."""
    width = HistogramBackbone().width
    pass_on = (np.eye(width, dtype=np.float32), np.zeros(width, dtype=np.float32))
    head = Layers(np.zeros(width, np.float32), np.ones(width, np.float32), pass_on)
    model = Model("histogram", 32, tuple(map(str, range(width))), head)
    shares = HistogramBackbone().embed(images)
    expected = np.exp(shares) / np.exp(shares).sum(axis=1, keepdims=True)
    found = load_runtime(with_graph(model, None, images)).probabilities(images)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_tiny_backbone_has_other_sizes(images):
    """The size is the model's."""
    small = np.ascontiguousarray(images[:, :16, :16])
    model = Model("tiny", 16, CLASSES, head_for(TinyBackbone(16).width))
    expected = model.probabilities(TinyBackbone(16).embed(small))
    found = load_runtime(with_graph(model, None, small)).probabilities(small)
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_graph_of_another_model_is_refused(images):
    """The message has both figures and what they should have been."""
    one, other = (Model("tiny", 32, CLASSES, head_for(384, depth)) for depth in (1, 2))
    mixed = replace(one, graph=with_graph(other, None, images).graph)
    message = (
        r"^the exported model differs from the trained one: of 15 images expected the same class for 99.9% "
        r"and probabilities within 0.001, got \d+\.\d% and [01]\.\d{4}; please report the backbone tiny$"
    )
    with pytest.raises(GateError, match=message):
        check_parity(mixed, TinyBackbone().embed(images), images)


def test_no_image_to_compare_is_no_reason_to_refuse(images):
    """The parity is that of no image."""
    model = with_graph(Model("tiny", 32, CLASSES, head_for(384)), None, images[:0])
    assert model.facts["parity"] == {"n": 0, "largest_difference": 0.0, "same_class": 1.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv", r"^expected the trunk of 'conv', got none$"),
        ("tiny", r"^expected 15 features, as the head has, got 384 of the trunk of 'tiny'$"),
    ],
)
def test_a_head_without_its_backbone_is_refused(images, name, message):
    """A missing trunk, or a head of other features, is found before anything is exported."""
    with pytest.raises(ModelError, match=message):
        with_graph(Model(name, 32, CLASSES, head_for(15)), None, images)


def test_the_same_model_gives_the_same_bytes(model):
    """Nothing of time, place or order of work is in the file; another head gives another file."""
    assert build_graph(model) == build_graph(replace(model)) == model.graph
    head = replace(model.head, mean=model.head.mean + np.float32(0.5))
    assert build_graph(replace(model, head=head)) != model.graph


def test_the_graph_takes_bytes_and_gives_probabilities(model):
    """It is one valid graph of one opset for any number of images, with no other file."""
    read = onnx.load_model_from_string(model.graph)
    onnx.checker.check_model(read, full_check=True)
    (takes,), (gives,) = read.graph.input, read.graph.output
    sides = [
        [side.dim_param or side.dim_value for side in end.type.tensor_type.shape.dim]
        for end in (takes, gives)
    ]
    assert (takes.name, gives.name, sides) == ("images", "probabilities", [["N", 32, 32, 3], ["N", 3]])
    assert [(opset.domain, opset.version) for opset in read.opset_import] == [("", 18)]


def test_the_metadata_is_what_another_program_needs(model, tmp_path):
    """Labels, also such as are not UTF-8, titles, size, preprocessing, augmentation, and tensors."""
    named = replace(
        model,
        labels=("caf\udce9", "thé", "tea"),
        titles=("Ash", "Birch", "Zeder ü"),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.1),
        flip_tta_below=0.9,
    )
    named.save(tmp_path)
    read = onnx.load_model_from_string(build_graph(named))
    found = {entry.key: entry.value for entry in read.metadata_props}
    assert "thé" in found["labels"]
    assert json.loads(found.pop("labels")) == ["caf\udce9", "thé", "tea"]
    assert json.loads(found.pop("titles")) == ["Ash", "Birch", "Zeder ü"]
    assert "mirrored from left to right" in found.pop("flip_tta")
    expected = {
        "assay_version": __version__,
        "architecture": "tiny",
        "size": "32",
        "conformal": "{}",
        "interpolation": "bicubic",
        "resize": (
            "done by the runtime, in terms of Pillow: bicubic: draft(None, (size, size)), which reduces JPEG "
            "alone; upright by EXIF, sRGB, transparent pixels over white; the whole image by "
            "resize((size, size), BICUBIC), aspect ratio not kept"
        ),
        "preprocessing": "in the graph: (pixel / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.2, 0.1] a channel",
        "tensors_sha256": hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest(),
    }
    assert found == expected | {"flip_tta_below": "0.9"}
    once = onnx.load_model_from_string(build_graph(replace(named, flip_tta_below=0.0)))
    assert {entry.key for entry in once.metadata_props} == {*expected, "labels", "titles"}


@pytest.mark.parametrize("always_sure", [False, True])
def test_the_graph_scores_outliers_as_the_scorer_does(images, always_sure):
    """The probabilities stay the same; without the second output the graph is that of before."""
    generator = np.random.default_rng(0)
    truth = np.arange(900) % 3
    drawn = np.stack([draw_image(label, generator) for label in truth])
    backbone = TinyBackbone()
    model = Model("tiny", 32, CLASSES, head_for(backbone.width))
    features = backbone.embed(drawn)
    top = np.ones(900) if always_sure else model.probabilities(features).max(axis=1).astype(float)
    scorer = fit_scorer(features, truth, top)
    plain, exported = with_graph(model, None, images), with_graph(model, None, images, scorer)
    runtime = load_runtime(exported)
    probs, score = runtime.scored(images)
    assert probs.tolist() == load_runtime(plain).probabilities(images).tolist()
    expected = scorer.score(backbone.embed(images), model.probabilities(backbone.embed(images)).max(axis=1))
    assert score == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert score[12] > 1 > np.median(score[:12])  # black among drawn images
    assert load_runtime(plain).scored(images)[1] is None
    bare = load_runtime(replace(exported, graph=without_outlier_score(exported.graph)))
    assert (bare.has_outlier_score, bare.probabilities(images).tolist()) == (False, probs.tolist())


def test_few_images_make_no_scorer():
    """Nor do those of one class."""
    features, top = np.random.default_rng(0).normal(size=(500, 5)), np.ones(500)
    assert fit_scorer(features, np.arange(500) % 2, top) is not None
    assert fit_scorer(features, np.where(np.arange(500) < 300, np.arange(500) % 2, -1), top) is None
    assert fit_scorer(features, np.zeros(500, int), top) is None
