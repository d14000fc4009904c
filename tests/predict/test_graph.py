"""The ONNX file: what it holds, and that it is the same each time."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from assay import __version__
from assay.export.graph import build_graph


@pytest.fixture
def named(model):
    """The model with titles, mean and std, as one with a network has them."""
    return replace(model, titles=("Ash", "Birch", "Zeder ü"), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))


def test_the_same_model_gives_the_same_bytes(model):
    """Nothing of time, place or order of work is in the file."""
    assert build_graph(model) == model.graph
    assert build_graph(replace(model)) == model.graph


def test_another_model_gives_other_bytes(model):
    """The tensors are in the file and in its metadata."""
    head = replace(model.head, mean=model.head.mean + np.float32(0.5))
    assert build_graph(replace(model, head=head)) != model.graph


def test_what_goes_in_and_what_comes_out(model):
    """Bytes in, float32 out, any number of images, one opset, no other file."""
    read = onnx.load_model_from_string(model.graph)
    onnx.checker.check_model(read, full_check=True)
    (takes,), (gives,) = read.graph.input, read.graph.output
    sides = [
        [side.dim_param or side.dim_value for side in end.type.tensor_type.shape.dim]
        for end in (takes, gives)
    ]
    assert (takes.name, gives.name, sides) == ("images", "probabilities", [["N", 32, 32, 3], ["N", 3]])
    assert takes.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert gives.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [(opset.domain, opset.version) for opset in read.opset_import] == [("", 18)]
    assert all(not tensor.external_data for tensor in read.graph.initializer)


def test_the_metadata_is_what_another_program_needs(named, tmp_path):
    """Labels, names, size, what is done to pixels where, and of which tensors it was made."""
    named.save(tmp_path)
    read = onnx.load_model_from_string(build_graph(named))
    found = {entry.key: entry.value for entry in read.metadata_props}
    assert json.loads(found.pop("labels")) == ["ash", "birch", "cedar"]
    assert json.loads(found.pop("titles")) == ["Ash", "Birch", "Zeder ü"]
    assert found == {
        "assay_version": __version__,
        "architecture": "tiny",
        "size": "32",
        "conformal": "{}",
        "interpolation": "bicubic",
        "resize": "done by the runtime: upright sRGB to size x size, Pillow's filter, aspect ratio not kept",
        "preprocessing": "in the graph: (pixel / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.2, 0.1] a channel",
        "tensors_sha256": hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest(),
    }


def test_a_graph_says_how_to_look_again(named):
    """What it does not do itself; a model that looks once says nothing."""
    once, twice = (
        {entry.key: entry.value for entry in onnx.load_model_from_string(build_graph(model)).metadata_props}
        for model in (named, replace(named, flip_tta_below=0.9))
    )
    assert {*twice} - {*once} == {"flip_tta", "flip_tta_below"}
    assert twice["flip_tta_below"] == "0.9"
    assert "mirrored from left to right" in twice["flip_tta"]


def test_labels_that_are_not_utf8_are_kept(model):
    """As the names of class folders may be; an ONNX file holds UTF-8 alone."""
    labels = ("caf\udce9", "th\u00e9", "tea")
    read = onnx.load_model_from_string(build_graph(replace(model, labels=labels)))
    found = {entry.key: entry.value for entry in read.metadata_props}
    assert tuple(json.loads(found["labels"])) == labels
    assert "th\u00e9" in found["labels"]
