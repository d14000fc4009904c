"""Smaller numbers: 16 or 8 bits, the correction of biases, and the gate before int8."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")

from small_models import conv_features, conv_trunk
from small_runs import draw_image

from assay.correct.outliers import fit_scorer
from assay.errors import GateError
from assay.export import precision
from assay.export.graph import build_graph
from assay.export.precision import RANGES, Quantization, calibrate_graph, quantize, to_float16, to_int8
from assay.predict.graph_check import read_metadata
from assay.predict.runtime import load_runtime

WAYS = [Quantization(ranges) for ranges in RANGES]


@pytest.fixture(scope="session")
def calibrated(conv_model, conv_images):
    return calibrate_graph(conv_model.graph, conv_images)


def predict(model, graph, images):
    return load_runtime(replace(model, graph=graph)).probabilities(images)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_eight_bits_predict_nearly_the_same(conv_model, conv_images, how, capfd):
    """Nearly the same probabilities from a fraction of the bytes, silently, and the same bytes each time."""
    found = to_int8(calibrate_graph(conv_model.graph, conv_images), how)
    expected = predict(conv_model, conv_model.graph, conv_images)
    assert np.abs(predict(conv_model, found, conv_images) - expected).mean() < 0.05
    assert len(found) < len(conv_model.graph) / 2
    assert found == to_int8(calibrate_graph(conv_model.graph, conv_images), how)
    assert capfd.readouterr() == ("", "")


def test_sixteen_bits_predict_the_same(conv_model, conv_images):
    """To the last digits that they have, from half of the bytes."""
    found = to_float16(conv_model.graph)
    expected = predict(conv_model, conv_model.graph, conv_images)
    assert np.abs(predict(conv_model, found, conv_images) - expected).max() < 0.01
    assert len(found) < 0.6 * len(conv_model.graph)


def test_smaller_numbers_keep_the_outlier_score(conv_model):
    """Nearly the float32 one, of images that belong and of noise; the probabilities stay."""
    generator, trunk = np.random.default_rng(0), conv_trunk()
    truth = np.arange(400) % 3
    drawn = np.stack([draw_image(label, generator, side=16) for label in truth])
    features = conv_features(trunk, drawn)
    top = conv_model.probabilities(features).max(axis=1).astype(float)
    graph = build_graph(conv_model, trunk, fit_scorer(features, truth, top))
    noise = generator.integers(0, 256, (20, 16, 16, 3), np.uint8)
    seen = np.concatenate([drawn[:100], noise])
    expected = load_runtime(replace(conv_model, graph=graph)).scored(seen)[1]
    assert expected[:100].max() < 1 < expected[100:].min()
    makers = {
        "float16": to_float16,
        "int8": lambda graph: to_int8(calibrate_graph(graph, drawn[:24]), WAYS[0]),
    }
    for make, off in zip(makers.values(), (0.01, 0.1), strict=True):
        probs, score = load_runtime(replace(conv_model, graph=make(graph))).scored(seen)
        assert np.abs(probs - predict(conv_model, make(conv_model.graph), seen)).max() < 1e-3
        assert np.abs(score[:100] - expected[:100]).mean() < off
        assert score[:100].max() < 1 < score[100:].min()


def test_the_metadata_stays(conv_model, calibrated):
    """The new graph has the metadata of the old one, and its precision."""
    before = read_metadata(conv_model.graph)
    made = {"float16": to_float16(conv_model.graph), "int8": to_int8(calibrated, WAYS[0])}
    for name, graph in made.items():
        assert read_metadata(graph) == before | {"precision": name}
        assert not any(node.doc_string for node in onnx.load_from_string(graph).graph.node)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_first_convolutions_can_stay_float(calibrated, kept):
    """Their weights are float32, those of the others 8-bit integers."""
    how = replace(WAYS[0], n_float_convolutions=kept)
    graph = onnx.load_from_string(to_int8(calibrated, how)).graph
    given_by = {node.output[0]: node.op_type for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    plain = [given_by.get(node.input[1]) != "DequantizeLinear" for node in convolutions]
    assert plain == [place < kept for place in range(2)]


def test_two_products_fit_into_sixteen_bits(calibrated):
    """Of weights and uint8 numbers: every processor then computes the same, whatever it adds them up in."""
    graph = onnx.load_from_string(to_int8(calibrated, WAYS[0])).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [tensor for tensor in held.values() if tensor.dtype == np.int8 and tensor.ndim > 1]
    assert len(weights) == 3
    assert all(2 * 255 * np.abs(one.astype(int)).max() < 2**15 for one in weights)
    assert max(np.abs(one.astype(int)).max() for one in weights) >= 63


@pytest.mark.parametrize("n", [1, 31])
def test_any_number_of_images_calibrates(conv_model, conv_images, n):
    """Also a number that does not fall into batches of one length."""
    some = np.resize(conv_images, (n, *conv_images.shape[1:]))
    found = to_int8(calibrate_graph(conv_model.graph, some), WAYS[1])
    assert len(found) < len(conv_model.graph) / 2


def test_ranges_are_those_of_the_images(conv_model, conv_images):
    """The least and largest values of an image depend on no other image, and are those of its output."""
    found = calibrate_graph(conv_model.graph, conv_images[:7])
    alone = calibrate_graph(conv_model.graph, conv_images[6:7])
    for name, highs in found.highs.items():
        assert highs[6] == pytest.approx(alone.highs[name][0], rel=1e-5, abs=1e-6)
        assert found.lows[name][6] == pytest.approx(alone.lows[name][0], rel=1e-5, abs=1e-6)
    probs = load_runtime(conv_model).without_tta(conv_images[:7])
    np.testing.assert_allclose(found.highs["probabilities"], probs.max(axis=1), rtol=1e-5)


def test_the_mean_of_each_channel_comes_back(conv_model, conv_images):
    """Of every layer's output, by biases alone; and probabilities of other images come nearer."""
    calibrated = calibrate_graph(conv_model.graph, conv_images[::2])
    graphs = {
        "plain": conv_model.graph,
        "before": to_int8(calibrated, replace(WAYS[0], bias_correction=False)),
        "after": to_int8(calibrated, WAYS[0]),
    }
    means = {name: layer_means(graph, conv_images[::2]) for name, graph in graphs.items()}
    for plain, before, after in zip(*means.values(), strict=True):
        assert np.abs(after - plain).max() < max(0.3 * np.abs(before - plain).max(), 1e-3)
    plain, before, after = (predict(conv_model, graph, conv_images[1::2]) for graph in graphs.values())
    # By how much depends on the processor's kernels: less than 0.8 on one, 0.91 on another.
    assert np.abs(after - plain).mean() < 0.95 * np.abs(before - plain).mean()
    one, other = (onnx.load_from_string(graphs[name]).graph for name in ("before", "after"))
    assert list(one.node) == list(other.node)
    changed = {
        a.name
        for a, b in zip(one.initializer, other.initializer, strict=True)
        if not np.array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
    }
    made_by = {node.output[0]: node for node in one.node}
    layers = [node for node in one.node if node.op_type in ("Conv", "Gemm")]
    assert changed
    assert changed <= {made_by[node.input[2]].input[0] for node in layers}


def layer_means(graph, images):
    """Of each channel of each convolution and Gemm, in the order in which they run.

    Each in a session of its own: a layer whose output is wanted is computed in float, those before it as they
    are when predicting, which differs on CPUs whose 8-bit products saturate.
    """
    nodes = onnx.load_from_string(graph).graph.node
    means = []
    for name in [node.output[0] for node in nodes if node.op_type in ("Conv", "Gemm")]:
        model = onnx.load_from_string(graph)
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (values,) = session.run([name], {"images": images})
        means.append(values.mean(axis=(0, *range(2, values.ndim))))
    return means


@pytest.fixture
def truth(conv_model, conv_images):
    """The predictions of the model as the truth: it is always right."""
    return load_runtime(conv_model).probabilities(conv_images).argmax(axis=1)


def attempt(model, images, truth, **more):
    return quantize(model, images[::2], images[1::2], of(images), truth, **more)


def of(images):
    """The gate's images, as ``quantize`` asks for their probabilities."""
    return lambda runtime: runtime.probabilities(images)


def test_the_nearest_way_is_taken(conv_model, conv_images, truth, monkeypatch):
    """Of two ways the one whose probabilities are nearest is measured on the gate, biases corrected."""
    monkeypatch.setattr(precision, "MAX_LOSS", 0.2)
    seen = []
    found = attempt(conv_model, conv_images, truth, progress=lambda *step: seen.append(step))
    *compared, taken = found.attempts
    nearest = min(compared, key=lambda one: one.divergence)
    assert found.how == taken.how == replace(nearest.how, bias_correction=True)
    assert taken.divergence < nearest.divergence
    assert [one.loss for one in compared] == [None] * 2
    predicted = predict(conv_model, found.graph, conv_images).argmax(axis=1)
    assert taken.loss == pytest.approx((predicted != truth).mean())
    assert seen == [("quantize", number, 2) for number in (1, 2)]


def one_class(model):
    """The graph of the model when its head predicts the first class for every image."""
    bias = model.head.weights[-1]
    read = onnx.load_model_from_string(model.graph)
    held = next(part for part in read.graph.initializer if np.array_equal(numpy_helper.to_array(part), bias))
    held.CopyFrom(numpy_helper.from_array(bias + np.array([100, 0, 0], np.float32), held.name))
    return read.SerializeToString()


@pytest.fixture
def blind(conv_model, monkeypatch):
    """int8 predicts one class, unless a convolution stays float32; then it is the model."""
    made = one_class(conv_model)
    monkeypatch.setattr(
        precision, "to_int8", lambda _, how: conv_model.graph if how.n_float_convolutions else made
    )
    return made


@pytest.mark.usefixtures("blind")
def test_first_convolutions_go_back_where_all_fail(conv_model, conv_images, truth):
    """With one convolution in float32 it passes; both losses are reported."""
    found = attempt(conv_model, conv_images, truth)
    assert (found.how.n_float_convolutions, found.graph) == (1, conv_model.graph)
    losses = [one.loss for one in found.attempts if one.loss is not None]
    assert losses == [pytest.approx((truth != 0).mean()), 0]
    assert losses[0] > 0.3


def test_a_gate_of_few_images_wants_agreement_too(conv_model, conv_images, truth, blind, monkeypatch):
    """Predicting the first class is right for images of that class, and fails all the same."""
    lucky = of(conv_images[truth == 0]), truth[truth == 0]
    found = quantize(conv_model, conv_images[::2], conv_images[1::2], *lucky)
    tried = [
        (one.how.n_float_convolutions, one.loss, one.agreement >= precision.MIN_AGREEMENT)
        for one in found.attempts
        if one.loss is not None
    ]
    assert tried == [(0, 0.0, False), (1, 0.0, True)]
    monkeypatch.setattr(precision, "FEW", 0)
    assert quantize(conv_model, conv_images[::2], conv_images[1::2], *lucky).graph == blind


@pytest.mark.parametrize(("n_wrong", "passes"), [(1, True), (2, False)])
def test_half_a_point_of_two_hundred_passes(conv_model, conv_images, truth, monkeypatch, n_wrong, passes):
    """One of 200 images may be lost, two may not; the refusal has the figures and what to do."""
    monkeypatch.setattr(precision, "to_int8", lambda *_: conv_model.graph)
    many, labels = np.resize(conv_images, (200, 16, 16, 3)), np.resize(truth, 200)
    exact = precision.load_runtime

    class Worse:
        """int8, which is wrong for the first images."""

        def __init__(self, model):
            self.runtime = exact(model)

        def without_tta(self, images):
            return self.runtime.without_tta(images)

        def probabilities(self, images):
            found = self.runtime.probabilities(images)
            found[:n_wrong] = np.roll(found[:n_wrong], 1, axis=1)
            return found

    loads = iter([exact, *[Worse] * 9])
    monkeypatch.setattr(precision, "load_runtime", lambda model: next(loads)(model=model))
    if passes:
        assert attempt(conv_model, many, labels).attempts[-1].loss == 0.005
        return
    message = (
        r"^int8: expected to lose at most 0.5 points of accuracy on 200 images, got ranges of all images, "
        r"biases corrected: 1.0; .*first 1 convolutions in float32: 1.0; nothing was written; "
        r"use --precision float16$"
    )
    with pytest.raises(GateError, match=message):
        attempt(conv_model, many, labels)
