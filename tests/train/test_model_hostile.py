"""Model folders that are damaged or lie, their hashes made right: what an attacker would send."""

import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from assay.errors import ModelError
from assay.predict.model import MOST_PIXELS, read_model
from assay.predict.package import FILES, GRAPH, write_manifest


def change_json(folder, name, change):
    """Let ``change`` work on the content of a JSON file, and seal the folder again, as an attacker would."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    write_manifest(folder)


def change_tensors(folder, model, changes):
    """Write other tensors, and seal the folder again."""
    tensors = {f"backbone.{name}": tensor for name, tensor in model.backbone.items()}
    tensors = {**tensors, **model.head.tensors(), **changes}
    (folder / "model.safetensors").write_bytes(save({k: v for k, v in tensors.items() if v is not None}))
    write_manifest(folder)


class Canary:
    """Sings when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemError('the canary ran')",)


@pytest.mark.parametrize(
    "name", ["model.pth", "model.pt2", "model.joblib", "model.keras", "model.safetensors"]
)
def test_a_pickle_never_runs(folder, tmp_path, name):
    """As a file, as an extra file of a model, or as its tensors: it is refused or ignored, never opened."""
    (tmp_path / name).write_bytes(pickle.dumps(Canary()))
    with pytest.raises(ModelError, match="are never opened"):
        read_model(tmp_path / name)
    (folder / name).write_bytes(pickle.dumps(Canary()))
    if name not in FILES:
        assert read_model(folder).size == 160
        return
    write_manifest(folder)
    with pytest.raises(ModelError, match=r"model\.safetensors: expected safetensors, got something else"):
        read_model(folder)


ABSENT = object()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("num_classes",), 4, "config.json has 4 classes, labels.json 3"),
        (
            ("num_classes",),
            ABSENT,
            r"expected files as assay writes them, got others \(KeyError: 'num_classes'",
        ),
        (("architecture",), "../../evil", r"architecture: expected the name of a backbone, got '\.\./"),
        (
            ("architecture",),
            "hf-hub:evil/repo",
            "architecture: expected the name of a backbone, got 'hf-hub:",
        ),
        (
            ("architecture",),
            "local-dir:/evil",
            "architecture: expected the name of a backbone, got 'local-dir:",
        ),
        (("architecture",), "", "architecture: expected the name of a backbone, got ''"),
        (("architecture",), "os.path\n", "architecture: expected the name of a backbone"),
        (("assay", "schema"), 2, "expected a model of schema 1, got a newer or unknown one; update assay"),
        (("assay", "schema"), ABSENT, "expected a model of schema 1, got a newer or unknown one"),
        (("assay",), ABSENT, r"expected files as assay writes them, got others \(KeyError: 'assay'\)"),
        (("assay",), 5, r"expected files as assay writes them, got others \(TypeError"),
        (("pretrained_cfg",), [], r"expected files as assay writes them, got others \(TypeError"),
        (("pretrained_cfg", "input_size"), [3], r"got others \(IndexError"),
        (("pretrained_cfg", "input_size"), [3, 1e999, 1], r"got others \(OverflowError"),
        (
            ("pretrained_cfg", "input_size"),
            [3, 10**6, 10**6],
            f"size: expected from 1 to {MOST_PIXELS} pixels",
        ),
        (
            ("pretrained_cfg", "input_size"),
            [3, 0, 0],
            f"size: expected from 1 to {MOST_PIXELS} pixels, got 0",
        ),
        (("pretrained_cfg", "mean"), [0.5], "expected mean and std of three channels"),
        (
            ("pretrained_cfg", "mean"),
            [0, 0, float("nan")],
            "mean: expected finite numbers, got NaN or infinity",
        ),
        (("pretrained_cfg", "std"), ["a", "b", "c"], r"got others \(ValueError"),
        (
            ("assay", "interpolation"),
            "lanczos",
            "interpolation: expected sharp or bicubic or nearest, got 'lanczos'",
        ),
        (("assay", "interpolation"), ["nearest"], r"got others \(TypeError"),
        (("assay", "interpolation"), ABSENT, r"got others \(KeyError: 'interpolation'\)"),
        (("assay", "features"), "pooled", "features: expected stages or map, got 'pooled'"),
        (("assay", "features"), None, "features: expected stages or map, got None"),
        (("assay", "flip_tta_below"), 1.5, "second_look_below: expected from 0 to 1, got 1.5"),
        (("assay", "flip_tta_below"), float("nan"), "second_look_below: expected from 0 to 1, got nan"),
        (("assay", "flip_tta_below"), "often", r"got others \(ValueError"),
        (("assay", "activation"), "tanh", "head: expected the activation gelu or relu, got 'tanh'"),
        (("assay", "activation"), {}, r"got others \(TypeError"),
        (("assay", "rounded"), "no", "head: expected true or false for rounded, got 'no'"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_config_that_cannot_be_is_refused(folder, place, value, message):
    """Another number of classes, a path or address for a name, a newer schema, nonsense."""

    def change(content):
        *outer, last = place
        for name in outer:
            content = content[name]
        if value is ABSENT:
            del content[last]
        else:
            content[last] = value

    change_json(folder, "config.json", change)
    with pytest.raises(ModelError, match=message):
        read_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a", "b"]}, "expected one output for each label, got 3 and 2"),
        (
            {"labels": ["a", "b", "b"]},
            "expected 3 labels that differ, and as many titles or none, got 2 and 3",
        ),
        ({"titles": ["a"]}, "expected 3 labels that differ, and as many titles or none, got 3 and 1"),
        ({"titles": None}, r"expected files as assay writes them, got others \(TypeError"),
    ],
)
def test_labels_that_cannot_be_are_refused(folder, change, message):
    """As many as outputs, each once, with a title each or none."""
    change_json(folder, "labels.json", lambda content: content.update(change))
    with pytest.raises(ModelError, match=message):
        read_model(folder)


def test_keys_that_are_not_known_are_ignored(folder):
    """A later version may say more; nothing is done with it."""
    change_json(folder, "config.json", lambda content: content.update(auto_map={"AutoModel": "evil.Model"}))
    assert read_model(folder).size == 160


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.conv.weight": np.array([np.nan])}, "conv.weight: expected finite numbers, got NaN"),
        ({"head.0.bias": np.full(5, np.inf, np.float32)}, r"head\.0\.bias: expected finite float32 numbers"),
        ({"head.1.bias": np.zeros(4, np.float32)}, r"head: expected 5 inputs, got weight \(5, 3\) and bias"),
        ({"head.0.weight": None}, "head: expected the tensors head.mean, head.scale, head.0.weight"),
        ({"other": np.zeros(1)}, "expected tensors of backbone and head, got 'other' too"),
        (
            {"backbone.conv.weight": None, "backbone.n": None},
            "expected the tensors of the backbone 'tf_efficientnet_lite0.in1k', got none",
        ),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_tensors_that_cannot_be_are_refused(model, folder, changes, message):
    """NaN, other shapes, too few or too many."""
    change_tensors(folder, model, changes)
    with pytest.raises(ModelError, match=message):
        read_model(folder)


def overlapping():
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return header({"a": one, "b": one}) + bytes(4)


def header(content):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        overlapping(),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [2**62, 2], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}) + bytes(4),
    ],
    ids=["empty", "huge header", "cut header", "overlap", "short", "overflow", "bfloat16"],
)
def test_a_file_that_is_no_safetensors_is_refused(folder, data):
    """Truncated, overlapping, or of a type that NumPy does not have."""
    (folder / "model.safetensors").write_bytes(data)
    write_manifest(folder)
    with pytest.raises(ModelError, match=r"expected (safetensors|files as assay writes them), got"):
        read_model(folder)


def test_a_graph_that_was_taken_away_is_missed(model, folder):
    """The manifest names it, so the model is not loaded without it."""
    replace(model, graph=b"a graph").save(folder)
    (folder / GRAPH).unlink()
    with pytest.raises(ModelError, match=r"expected model\.onnx, which is not there; copy the whole folder"):
        read_model(folder)


def test_a_graph_that_was_slipped_in_is_refused(folder):
    """A model that was saved without one gets none from a stranger, be it a file or a folder."""
    (folder / GRAPH).write_bytes(b"evil")
    with pytest.raises(ModelError, match=r"model\.onnx: its sha256 is not the one in manifest\.json"):
        read_model(folder)
    (folder / GRAPH).unlink()
    (folder / GRAPH).mkdir()
    with pytest.raises(ModelError, match=r"expected model\.onnx, which is not there"):
        read_model(folder)


def test_a_truncated_file_is_refused(folder):
    """Half of the tensors, sealed as if it were right."""
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    write_manifest(folder)
    with pytest.raises(ModelError, match=r"model\.safetensors: expected safetensors, got something else"):
        read_model(folder)
