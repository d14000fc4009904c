"""An ONNX file that is a model by itself."""

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from assay.errors import ModelError
from assay.predict.runtime import load_runtime


def test_a_lone_graph_is_a_model(model, tmp_path):
    """Its metadata says what the folder says: labels, names for people, size and resize."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    file = tmp_path / "alone.onnx"
    with_sets = onnx.load_model_from_string(model.graph)
    told = {entry.key: entry.value for entry in with_sets.metadata_props}
    helper.set_model_props(with_sets, told | {"conformal": '{"0.9": 0.2}'})
    file.write_bytes(with_sets.SerializeToString())
    alone, whole = load_runtime(file), load_runtime(replace(model, facts={"conformal": {"0.9": 0.2}}))
    facts = ("labels", "titles", "size", "interpolation", "thresholds")
    assert [getattr(alone, name) for name in facts] == [getattr(whole, name) for name in facts]
    assert np.array_equal(alone.probabilities(images), whole.probabilities(images))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "64"),
        ("size", "0"),
        ("size", "many"),
        ("labels", '["a", "b"]'),
        ("labels", "7"),
        ("labels", '"abc"'),
        ("labels", '["a", "a", "b"]'),
        ("labels", "[" * 100_000),
        ("conformal", '{"0.9": 1' + "0" * 400 + "}"),
        ("figures", "{}"),
        ("labels", "{"),
        ("titles", '["one"]'),
        ("interpolation", "lanczos"),
        ("conformal", '{"0.9": 2}'),
        ("conformal", '{"2": 0.1}'),
        ("conformal", '{"many": 0.1}'),
        ("conformal", "[]"),
        ("flip_tta_below", "1.1"),
        ("flip_tta_below", "nan"),
        ("flip_tta_below", "often"),
        ("size", None),
        ("labels", None),
    ],
)
def test_a_lone_graph_that_is_not_ours_is_refused(model, tmp_path, name, value):
    """Metadata that is missing, or that the graph itself belies; and what is no graph at all."""
    read = onnx.load_model_from_string(model.graph)
    facts = {entry.key: entry.value for entry in read.metadata_props} | {name: value}
    helper.set_model_props(read, {key: text for key, text in facts.items() if text is not None})
    file = tmp_path / "alone.onnx"
    file.write_bytes(read.SerializeToString())
    with pytest.raises(ModelError, match=r"alone\.onnx: expected a file of assay export"):
        load_runtime(file)
    file.write_bytes(b"PK\x03\x04 no graph")
    with pytest.raises(ModelError, match=r"alone\.onnx: expected a file of assay export"):
        load_runtime(file)


@pytest.mark.parametrize("name", ["alone.onnx", "ALONE.ONNX"])
def test_what_is_no_file_is_not_read(tmp_path, name):
    """A pipe would be waited for, a device has no end."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError, match="expected a file that can be read, got not_regular"):
        load_runtime(tmp_path / name)
