"""The model folder: what is saved is loaded, and what was changed, cut or made up is refused."""

import dataclasses
import json
import os
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from assay.errors import ModelError
from assay.predict.model import FILES, GRAPH, MANIFEST, MAX_SIZE, read_files, read_model, write_manifest

ABSENT = object()


def test_what_is_saved_is_loaded(named_model, tmp_path):
    """Every field comes back, the graph to the last byte, and the same probabilities to the last bit."""
    chosen = replace(
        named_model,
        head=replace(named_model.head, activation="relu"),
        interpolation="sharp",
        features="map",
        flip_tta_below=0.9,
        graph=bytes(range(256)),
    )
    chosen.save(tmp_path / "model", card="# A card\n")
    again, X = read_model(str(tmp_path)), np.random.default_rng(0).normal(size=(20, 8))
    fields = {field.name for field in dataclasses.fields(chosen)} - {"backbone", "head"}
    assert {name: getattr(again, name) for name in fields} == {name: getattr(chosen, name) for name in fields}
    assert again.head.activation == "relu"
    assert {k: (v.dtype, v.shape, v.tolist()) for k, v in again.backbone.items()} == {
        k: (v.dtype, v.shape, v.tolist()) for k, v in chosen.backbone.items()
    }
    assert again.probabilities(X).tobytes() == chosen.probabilities(X).tobytes()
    assert "\\x00" not in repr(again)


def test_saving_twice_gives_the_same_bytes(named_model, folder, tmp_path):
    """Into another folder, or over the first one."""
    first = {name: (folder / name).read_bytes() for name in (*FILES, MANIFEST)}
    read_model(folder).save(tmp_path / "other", card="# A card\n")
    named_model.save(folder, card="# A card\n")
    for place in (folder, tmp_path / "other"):
        assert {name: (place / name).read_bytes() for name in (*FILES, MANIFEST)} == first
        assert len(list(place.iterdir())) == len(first)


def test_a_model_without_titles_or_backbone(named_model, tmp_path):
    """A backbone without weights is saved by its name; any other needs its tensors."""
    small = replace(named_model, architecture="tiny", titles=(), mean=(), std=(), backbone={}, facts={})
    small.save(tmp_path)
    again = read_model(tmp_path)
    assert (again.titles, again.mean, dict(again.backbone), dict(again.facts)) == ((), (), {}, {})
    replace(small, architecture="conv").save(tmp_path)
    with pytest.raises(ModelError, match="expected the tensors of the backbone 'conv', got none"):
        read_model(tmp_path)


def test_a_graph_of_an_older_model_does_not_stay(named_model, tmp_path):
    """Saved over a model with a graph, one without it leaves none behind."""
    replace(named_model, graph=b"old").save(tmp_path)
    named_model.save(tmp_path)
    assert read_model(tmp_path).graph == b""
    assert not (tmp_path / GRAPH).exists()


def test_the_config_is_what_timm_expects(named_model, tmp_path):
    """The names of timm's config files, its own name for a filter, and ours under one key."""
    replace(named_model, interpolation="sharp").save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "architecture": "tf_efficientnet_lite0.in1k",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": {
            "input_size": [3, 160, 160],
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.2, 0.1],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
        },
        "assay": {
            "system": "assay",
            "seed": 3,
            "figures": {"holdout": {"n": 10}},
            "schema": 1,
            "features": "stages",
            "interpolation": "sharp",
            "flip_tta_below": 0.0,
            "activation": "gelu",
        },
    }


def test_a_fact_cannot_pose_as_ours(named_model, tmp_path):
    """Whatever the facts are called, the schema and the choices are the model's."""
    replace(named_model, facts={"schema": 99, "features": "map", "activation": "relu"}).save(tmp_path)
    again = read_model(tmp_path)
    assert (dict(again.facts), again.features, again.head.activation) == ({}, "stages", "gelu")


def test_keys_that_are_not_known_are_ignored(folder):
    """A later version may write more; nothing is done with it."""
    change_json(folder, "config.json", lambda content: content.update(auto_map={"AutoModel": "evil.Model"}))
    assert read_model(folder).size == 160


@pytest.mark.parametrize("name", [*FILES, GRAPH])
def test_a_flipped_bit_or_a_missing_file_is_refused(named_model, folder, name):
    """Fault 46: in any file, at its start, middle or end, also when the folder is in a run's."""
    replace(named_model, graph=b"a graph").save(folder, card="# A card\n")
    whole = (folder / name).read_bytes()
    for position in (0, len(whole) // 2, -1):
        data = bytearray(whole)
        data[position] ^= 4
        (folder / name).write_bytes(data)
        for place in (folder, folder.parent):
            message = f"{name}: its sha256 is not the one in manifest.json; the file was changed or damaged"
            with pytest.raises(ModelError, match=message):
                read_model(place)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"expected {name}, which is not there; copy the whole folder"):
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


@pytest.mark.parametrize("written", range(len(FILES) + 1))
def test_a_save_that_was_cut_short_is_refused(named_model, folder, tmp_path, written):
    """Killed after any number of files, over an old model or in a new folder, it is not loaded."""
    other = replace(named_model, labels=("x", "y", "z"), size=128, graph=b"a graph")
    other.save(tmp_path / "whole", card="# Another\n")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    order = ("model.safetensors", "config.json", "labels.json", "README.md", GRAPH)
    for name in order[: written + 1]:
        for place in (folder, fresh):
            (place / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    with pytest.raises(ModelError, match=r"found no manifest\.json; was the run finished\?"):
        read_model(fresh)
    if written:  # the tensors are the same in both
        with pytest.raises(ModelError, match="its sha256 is not the one"):
            read_model(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "expected JSON, got something else"),
        (b"[" * 100_000, "expected JSON, got something else"),
        (b'{"schema": 2, "sha256": {}}', "expected schema 1, got 2; update assay"),
        (b"{}", "Object missing required field `schema`"),
        (b'{"schema": 1, "sha256": {}}', "its sha256 is not the one"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder, text, message):
    """Damaged, newer, or empty: nothing below it is read."""
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(ModelError, match=message):
        read_files(folder)


def test_a_pipe_is_no_file_of_a_model(folder, monkeypatch):
    """A pipe would be waited for; and no file of a model is larger than ONNX allows."""
    (folder / FILES[0]).unlink()
    os.mkfifo(folder / FILES[0])
    with pytest.raises(ModelError, match=FILES[0]):
        read_files(folder)
    monkeypatch.setattr("assay.predict.model.MAX_FILE_BYTES", 5)
    with pytest.raises(ModelError, match=f"{MANIFEST}: expected a file that can be read, got too_large"):
        read_files(folder)


def test_a_name_that_no_disk_holds_is_no_model(tmp_path):
    """The system's refusal is ours."""
    with pytest.raises(ModelError, match=r"expected a folder that can be read \(File name too long\)"):
        read_model(tmp_path / ("a" * 300))


def change_json(folder, name, change):
    """Change the content of a JSON file and write the manifest again, as an attacker would."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    write_manifest(folder)


class Canary:
    """Sings when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemError('the canary ran')",)


@pytest.mark.parametrize("name", ["model.pth", "model.keras", "model.safetensors"])
def test_a_pickle_never_runs(folder, tmp_path, name):
    """Fault 42: as a file, beside a model, or as its tensors, it is refused or ignored, never opened."""
    (tmp_path / name).write_bytes(pickle.dumps(Canary()))
    message = r"expected a model folder with manifest\.json, got a file; .* are never opened"
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path / name)
    (folder / name).write_bytes(pickle.dumps(Canary()))
    if name not in FILES:
        assert read_model(folder).size == 160
        return
    write_manifest(folder)
    with pytest.raises(ModelError, match=r"model\.safetensors: expected safetensors, got something else"):
        read_model(folder)


WRONG_TYPE = "config.json: expected a file as assay writes it, got another "


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("num_classes",), 4, "config.json has 4 classes, labels.json 3"),
        (("num_classes",), ABSENT, WRONG_TYPE + ".Object missing required field `num_classes`"),
        (("architecture",), "../../evil", r"architecture: expected the name of a backbone, got '\.\./"),
        (
            ("architecture",),
            "hf-hub:evil/repo",
            "architecture: expected the name of a backbone, got 'hf-hub:",
        ),
        (("architecture",), "os.path\n", "architecture: expected the name of a backbone"),
        (("assay", "schema"), 2, "expected a model of schema 1, got 2; update assay"),
        (("assay",), 5, WRONG_TYPE + r".Expected `object`, got `int` - at `\$.assay`"),
        (("pretrained_cfg", "input_size"), [3, 1e999, 1], WRONG_TYPE),
        (("pretrained_cfg", "input_size"), [3, 10**6, 10**6], f"size: expected from 1 to {MAX_SIZE}, got"),
        (("pretrained_cfg", "input_size"), [3, 0, 0], f"size: expected from 1 to {MAX_SIZE}, got 0"),
        (("pretrained_cfg", "mean"), [0.5], "expected mean and std of three channels"),
        (
            ("pretrained_cfg", "mean"),
            [0, 0, float("nan")],
            "mean: expected finite numbers, got NaN or infinity",
        ),
        (("assay", "interpolation"), "lanczos", "interpolation: expected sharp or bicubic or nearest, got"),
        (("assay", "features"), "pooled", "features: expected stages or map, got 'pooled'"),
        (("assay", "flip_tta_below"), 1.5, "flip_tta_below: expected from 0 to 1, got 1.5"),
        (("assay", "flip_tta_below"), float("nan"), "flip_tta_below: expected from 0 to 1, got nan"),
        (("assay", "activation"), "tanh", "head: expected the activation gelu or relu, got 'tanh'"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_config_that_cannot_be_is_refused(folder, place, value, message):
    """Fault 44: another number of classes, a path or address for a name, a newer schema, nonsense."""

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
        ({"titles": None}, "labels.json: expected a file as assay writes it, got another .Expected `array`"),
        ({"labels": ["a", "b", 3]}, r"Expected `str`, got `int` - at `\$.labels\[2\]`"),
    ],
)
def test_labels_that_cannot_be_are_refused(folder, change, message):
    """As many as outputs, each once, with a title each or none."""
    change_json(folder, "labels.json", lambda content: content.update(change))
    with pytest.raises(ModelError, match=message):
        read_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.conv.weight": np.array([np.nan])}, "conv.weight: expected finite numbers, got NaN"),
        ({"head.0.weight": None}, "head: expected the tensors head.mean, head.scale, head.0.weight"),
        ({"other": np.zeros(1)}, "expected tensors of backbone and head, got 'other' too"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_tensors_that_cannot_be_are_refused(named_model, folder, changes, message):
    """Fault 43: NaN, other shapes, too few or too many."""
    tensors = {f"backbone.{name}": tensor for name, tensor in named_model.backbone.items()}
    tensors = {**tensors, **named_model.head.tensors(), **changes}
    (folder / "model.safetensors").write_bytes(save({k: v for k, v in tensors.items() if v is not None}))
    write_manifest(folder)
    with pytest.raises(ModelError, match=message):
        read_model(folder)


def header(content):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

NO_TENSORS = {
    "empty": b"",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "cut header": struct.pack("<Q", 100) + b"{}",
    "overlap": header({"a": ONE, "b": ONE}) + bytes(4),
    "short": header({"a": ONE | {"shape": [2]}}) + bytes(4),
    "overflow": header({"a": ONE | {"shape": [2**62, 2]}}) + bytes(4),
    "bfloat16": header({"a": ONE | {"shape": [2], "dtype": "BF16"}}) + bytes(4),
}


@pytest.mark.parametrize("data", [*NO_TENSORS.values(), None], ids=[*NO_TENSORS, "truncated"])
def test_a_file_that_is_no_safetensors_is_refused(folder, data):
    """Fault 43: truncated, overlapping, or of a type that NumPy does not have."""
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2] if data is None else data)
    write_manifest(folder)
    with pytest.raises(ModelError, match=r"model\.safetensors: expected safetensors, got something else"):
        read_model(folder)
