"""The same graph with 16 or 8 bits a number."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from assay.export.precision import Quantisation, count_convolutions, to_float16, to_int8
from assay.predict.graph_check import read_metadata
from assay.predict.runtime import load_runtime

WAYS = [Quantisation(channels, method) for channels in (True, False) for method in ("minmax", "percentile")]


def says(model, graph, images):
    return load_runtime(replace(model, graph=graph)).probabilities(images)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_eight_bits_say_nearly_the_same(conv_model, conv_images, how, capfd):
    """Nearly the same probabilities from a fraction of the bytes, in silence, the same bytes each time."""
    found = to_int8(conv_model.graph, conv_images, how)
    expected = load_runtime(conv_model).probabilities(conv_images)
    assert np.abs(says(conv_model, found, conv_images) - expected).mean() < 0.05
    assert len(found) < len(conv_model.graph) / 2
    assert found == to_int8(conv_model.graph, conv_images, how)
    assert capfd.readouterr() == ("", "")


def test_sixteen_bits_say_the_same(conv_model, conv_images):
    """To the last digits that they have, from half of the bytes."""
    found = to_float16(conv_model.graph)
    expected = load_runtime(conv_model).probabilities(conv_images)
    assert np.abs(says(conv_model, found, conv_images) - expected).max() < 0.01
    assert len(found) < 0.6 * len(conv_model.graph)


def test_the_metadata_stays(conv_model, conv_images):
    """What somebody needs who has the graph alone, and the precision."""
    before = read_metadata(conv_model.graph)
    for graph, name in ((to_float16(conv_model.graph), "float16"), (int8(conv_model, conv_images), "int8")):
        assert read_metadata(graph) == before | {"precision": name}
        assert not any(node.doc_string for node in onnx.load_from_string(graph).graph.node)


def int8(model, images, **more):
    return to_int8(model.graph, images, Quantisation(True, "minmax", **more))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_first_convolutions_can_stay(conv_model, conv_images, kept):
    """Their weights are float32, those of the others whole numbers."""
    assert count_convolutions(conv_model.graph) == 2
    graph = onnx.load_from_string(int8(conv_model, conv_images, kept=kept)).graph
    given_by = {node.output[0]: node.op_type for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    plain = [given_by.get(node.input[1]) != "DequantizeLinear" for node in convolutions]
    assert plain == [place < kept for place in range(2)]


@pytest.mark.parametrize("n", [1, 31, 33, 70])
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_any_number_of_images_gives_ranges(conv_model, conv_images, method, n):
    """Also one that does not fall into batches of one length."""
    many = np.resize(conv_images, (n, *conv_images.shape[1:]))
    found = to_int8(conv_model.graph, many, Quantisation(per_channel=True, method=method, shifted=False))
    assert len(found) < len(conv_model.graph) / 2
