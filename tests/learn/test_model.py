import json
from dataclasses import replace

import numpy as np
import pytest

from assay._errors import ModelError
from assay.learn.model import load_model
from assay.learn.package import FILES, MANIFEST


def test_what_is_saved_is_loaded(model, folder):
    """Every field comes back, and the same probabilities to the last bit."""
    again, X = load_model(str(folder)), np.random.default_rng(0).normal(size=(20, 8))
    for name in ("architecture", "size", "labels", "titles", "mean", "std", "facts"):
        assert getattr(again, name) == getattr(model, name)
    assert {k: (v.dtype, v.shape, v.tolist()) for k, v in again.backbone.items()} == {
        k: (v.dtype, v.shape, v.tolist()) for k, v in model.backbone.items()
    }
    assert again.probabilities(X).tobytes() == model.probabilities(X).tobytes()


def test_a_run_folder_is_taken_for_the_model_in_it(folder):
    """The folder of a run is enough."""
    assert load_model(folder.parent).labels == load_model(folder).labels


def test_saving_twice_gives_the_same_bytes(model, folder, tmp_path):
    """Into another folder, or over the first one."""
    first = {name: (folder / name).read_bytes() for name in (*FILES, MANIFEST)}
    load_model(folder).save(tmp_path / "other", card="# A card\n")
    model.save(folder, card="# A card\n")
    for place in (folder, tmp_path / "other"):
        assert {name: (place / name).read_bytes() for name in (*FILES, MANIFEST)} == first
        assert len(list(place.iterdir())) == len(first)


def test_a_model_without_titles_or_backbone(model, tmp_path):
    """A backbone that has no weights is saved by its name."""
    small = replace(model, architecture="tiny", titles=(), mean=(), std=(), backbone={}, facts={})
    small.save(tmp_path)
    again = load_model(tmp_path)
    assert (again.titles, again.mean, dict(again.backbone), dict(again.facts)) == ((), (), {}, {})


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
        "assay": {"schema": 1, "recipe": "assay", "seed": 3, "figures": {"holdout": {"n": 10}}},
    }


def test_a_fact_cannot_pose_as_the_schema(model, tmp_path):
    """Whatever the facts are called, the schema is ours."""
    replace(model, facts={"schema": 99}).save(tmp_path)
    assert dict(load_model(tmp_path).facts) == {}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused(folder, name):
    """In any file of the model."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name}: its sha256 is not the one in manifest.json"):
        load_model(folder)


@pytest.mark.parametrize("written", range(len(FILES)))
def test_a_save_that_was_cut_short_is_refused(model, folder, tmp_path, written):
    """Killed after any number of files, over an old model or in a new folder, it is not loaded."""
    other = replace(model, labels=("x", "y", "z"), size=128)
    other.save(tmp_path / "whole", card="# Another\n")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    order = ("model.safetensors", "config.json", "labels.json", "README.md")
    for name in order[: written + 1]:
        for place in (folder, fresh):
            (place / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    with pytest.raises(ModelError, match=r"found no manifest\.json"):
        load_model(fresh)
    if written:  # the tensors are the same in both
        with pytest.raises(ModelError, match="its sha256 is not the one"):
            load_model(folder)


def test_one_output_for_each_label(model):
    """A head of another size than the labels is refused at once."""
    with pytest.raises(ModelError, match="expected one output for each label, got 3 and 2"):
        replace(model, labels=("a", "b"), titles=())
