import json
from dataclasses import replace

import numpy as np
import pytest

from assay.errors import ModelError
from assay.predict.model import read_model
from assay.predict.package import FILES, GRAPH, MANIFEST


def test_what_is_saved_is_loaded(model, folder):
    """Every field comes back, and the same probabilities to the last bit."""
    again, X = read_model(str(folder)), np.random.default_rng(0).normal(size=(20, 8))
    for name in ("architecture", "size", "labels", "titles", "mean", "std", "facts"):
        assert getattr(again, name) == getattr(model, name)
    assert {k: (v.dtype, v.shape, v.tolist()) for k, v in again.backbone.items()} == {
        k: (v.dtype, v.shape, v.tolist()) for k, v in model.backbone.items()
    }
    assert again.probabilities(X).tobytes() == model.probabilities(X).tobytes()


def test_a_run_folder_is_taken_for_the_model_in_it(folder):
    """The folder of a run is enough."""
    assert read_model(folder.parent).labels == read_model(folder).labels


def test_saving_twice_gives_the_same_bytes(model, folder, tmp_path):
    """Into another folder, or over the first one."""
    first = {name: (folder / name).read_bytes() for name in (*FILES, MANIFEST)}
    read_model(folder).save(tmp_path / "other", card="# A card\n")
    model.save(folder, card="# A card\n")
    for place in (folder, tmp_path / "other"):
        assert {name: (place / name).read_bytes() for name in (*FILES, MANIFEST)} == first
        assert len(list(place.iterdir())) == len(first)


def test_a_model_without_titles_or_backbone(model, tmp_path):
    """A backbone that has no weights is saved by its name."""
    small = replace(model, architecture="tiny", titles=(), mean=(), std=(), backbone={}, facts={})
    small.save(tmp_path)
    again = read_model(tmp_path)
    assert (again.titles, again.mean, dict(again.backbone), dict(again.facts)) == ((), (), {}, {})


def test_every_choice_comes_back(model, tmp_path):
    """Activation, rounding, squares and features of another kind, and the graph to the last byte."""
    chosen = replace(
        model,
        head=replace(model.head, activation="relu", rounded=True),
        interpolation="nearest",
        features="map",
        graph=bytes(range(256)),
    )
    chosen.save(tmp_path)
    again, X = read_model(tmp_path), np.random.default_rng(0).normal(size=(20, 8))
    assert (again.interpolation, again.features, again.graph) == ("nearest", "map", bytes(range(256)))
    assert (again.head.activation, again.head.rounded) == ("relu", True)
    assert again.probabilities(X).tobytes() == chosen.probabilities(X).tobytes()
    assert again.probabilities(X).tobytes() != model.probabilities(X).tobytes()
    assert json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["interpolation"] == "nearest"
    assert "\\x00" not in repr(again)


def test_timm_reads_the_name_of_a_filter_that_it_knows(model, tmp_path):
    """A sharpened square is bicubic to timm, and comes back as what it is."""
    replace(model, interpolation="sharp").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["pretrained_cfg"]["interpolation"] == "bicubic"
    assert read_model(tmp_path).interpolation == "sharp"


def test_a_graph_of_an_older_model_does_not_stay(model, tmp_path):
    """Saved over a model with a graph, one without it leaves none behind."""
    replace(model, graph=b"old").save(tmp_path)
    model.save(tmp_path)
    assert read_model(tmp_path).graph == b""
    assert not (tmp_path / GRAPH).exists()


def test_the_convolutions_of_a_network_of_our_own_are_kept(model, tmp_path):
    """``conv`` names no network of timm; its tensors are kept like any other's, and must be there."""
    replace(model, architecture="conv", mean=(), std=()).save(tmp_path)
    assert read_model(tmp_path).backbone.keys() == model.backbone.keys()
    replace(model, architecture="conv", backbone={}).save(tmp_path)
    with pytest.raises(ModelError, match="expected the tensors of the backbone 'conv', got none"):
        read_model(tmp_path)


def test_the_config_is_what_timm_expects(folder):
    """The names of timm's config files, and ours under one key of their own."""
    config = json.loads((folder / "config.json").read_text())
    assert config == {
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
            "interpolation": "bicubic",
            "flip_tta_below": 0.0,
            "activation": "gelu",
            "rounded": False,
        },
    }


def test_a_fact_cannot_pose_as_ours(model, tmp_path):
    """Whatever the facts are called, the schema and the choices are ours."""
    posing = {"schema": 99, "features": "map", "activation": "relu", "rounded": True}
    replace(model, facts=posing).save(tmp_path)
    again = read_model(tmp_path)
    assert dict(again.facts) == {}
    assert (again.features, again.head.activation, again.head.rounded) == ("stages", "gelu", False)


@pytest.mark.parametrize("name", [*FILES, GRAPH])
def test_a_flipped_bit_is_refused(model, folder, name):
    """In any file of the model, also when it is in a run's folder."""
    replace(model, graph=b"a graph").save(folder, card="# A card\n")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    for place in (folder, folder.parent):
        with pytest.raises(ModelError, match=f"{name}: its sha256 is not the one in manifest.json"):
            read_model(place)


@pytest.mark.parametrize("written", range(len(FILES) + 1))
def test_a_save_that_was_cut_short_is_refused(model, folder, tmp_path, written):
    """Killed after any number of files, over an old model or in a new folder, it is not loaded."""
    other = replace(model, labels=("x", "y", "z"), size=128, graph=b"a graph")
    other.save(tmp_path / "whole", card="# Another\n")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    order = ("model.safetensors", "config.json", "labels.json", "README.md", GRAPH)
    for name in order[: written + 1]:
        for place in (folder, fresh):
            (place / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    with pytest.raises(ModelError, match=r"found no manifest\.json"):
        read_model(fresh)
    if written:  # the tensors are the same in both
        with pytest.raises(ModelError, match="its sha256 is not the one"):
            read_model(folder)


def test_one_output_for_each_label(model):
    """A head of another size than the labels is refused at once."""
    with pytest.raises(ModelError, match="expected one output for each label, got 3 and 2"):
        replace(model, labels=("a", "b"), titles=())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"interpolation": "bilinear"},
            "interpolation: expected sharp or bicubic or nearest, got 'bilinear'",
        ),
        ({"features": "pooled"}, "features: expected stages or map, got 'pooled'"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(model, choice, message):
    """The error names those that there are."""
    with pytest.raises(ModelError, match=f"^{message}$"):
        replace(model, **choice)
