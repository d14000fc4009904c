"""Biases take back what rounding shifts on average."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")

from assay.export.precision import Quantisation, to_int8
from assay.predict.runtime import load_runtime

COARSE = Quantisation(per_channel=False, method="minmax")


@pytest.fixture
def uncorrected(conv_model, conv_images):
    """The int8 graph as the quantiser leaves it."""
    return to_int8(conv_model.graph, conv_images, replace(COARSE, shifted=False))


def says(model, graph, images):
    return load_runtime(replace(model, graph=graph)).probabilities(images)


def test_the_mean_of_each_channel_comes_back(conv_model, conv_images, uncorrected):
    """Of every layer's output; before, each channel is off by what its weights were rounded by."""
    corrected = to_int8(conv_model.graph, conv_images, COARSE)
    plain = layer_means(conv_model.graph, conv_images)
    before, after = (layer_means(graph, conv_images) for graph in (uncorrected, corrected))
    assert len(plain) == len(before) == len(after) == 3
    for place in range(3):
        off_before, off_after = np.abs(before[place] - plain[place]), np.abs(after[place] - plain[place])
        assert off_after.max() < max(0.3 * off_before.max(), 1e-3)


def layer_means(graph, images):
    """Of each channel of each convolution and Gemm, in the order in which they run.

    Each in a session of its own: a layer whose output is asked for is computed in float, those before it as
    they are when predicting, which differs on processors whose 8-bit products saturate.
    """
    import onnxruntime

    outputs = [
        node.output[0] for node in onnx.load_from_string(graph).graph.node if node.op_type in ("Conv", "Gemm")
    ]
    means = []
    for name in outputs:
        model = onnx.load_from_string(graph)
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (values,) = session.run([name], {"images": images})
        means.append(values.mean(axis=(0, *range(2, values.ndim))))
    return means


def test_only_biases_change(conv_model, conv_images, uncorrected):
    """All other numbers and the operators are those of the quantiser."""
    corrected = to_int8(conv_model.graph, conv_images, COARSE)
    one, other = (onnx.load_from_string(graph).graph for graph in (uncorrected, corrected))
    assert list(one.node) == list(other.node)
    changed = {
        a.name
        for a, b in zip(one.initializer, other.initializer, strict=True)
        if not np.array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
    }
    biases = {
        source.input[0]
        for node in one.node
        if node.op_type in ("Conv", "Gemm")
        for source in one.node
        if source.output[0] == node.input[2]
    }
    assert changed
    assert changed <= biases


def test_probabilities_come_nearer(conv_model, conv_images, uncorrected):
    """On images that the biases were not corrected on."""
    seen, new = conv_images[::2], conv_images[1::2]
    expected = says(conv_model, conv_model.graph, new)
    corrected = to_int8(conv_model.graph, seen, COARSE)
    off, off_before = (
        np.abs(says(conv_model, graph, new) - expected).mean() for graph in (corrected, uncorrected)
    )
    assert off < 0.8 * off_before
