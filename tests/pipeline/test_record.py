"""run.json: what makes two runs one, and what it remembers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import dataset_of, drawn

from assay.data.dataset import Skipped
from assay.data.split import Split
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.embed.images import embed_images
from assay.embed.tiny import TinyBackbone
from assay.pipeline.options import RunOptions
from assay.pipeline.record import (
    backbone_facts,
    changed_versions,
    contents_digest,
    data_facts,
    differences,
    machine,
    new_record,
    read_contents,
    versions,
)


@pytest.fixture
def split() -> Split:
    return Split(np.array([0, 1]), np.array([2]))


def test_a_record_knows_its_own_settings_after_a_round_trip(split, tmp_path):
    """Settings and data that were written as JSON equal what the same options give again."""
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    options = RunOptions(backbone="tiny", threshold=0.1 + 0.2, weights=weights, seed=2**32 - 2)
    data = data_facts(replace(dataset_of(drawn(3)), titles=("a",)))
    record = json.loads(json.dumps(new_record(options.settings(), data, split)))
    assert differences(record, options.settings(), data) == []


@given(st.lists(st.one_of(st.none(), st.binary(min_size=32, max_size=32)), max_size=6))
def test_contents_are_known_by_their_order(contents):
    """Equal contents have one digest, any two that differ have two."""
    digest = contents_digest(contents)
    assert digest == contents_digest(list(contents))
    assert digest != contents_digest([*contents, None])
    if len(set(contents)) > 1:
        assert digest != contents_digest(contents[::-1]) or contents == contents[::-1]


def test_images_are_hashed_as_embedding_hashes_them(tmp_path):
    """Good, damaged, unreadable and left-out images have the contents that ``embed_images`` finds."""
    good = drawn(3)
    dataset = dataset_of(
        [good[0], b"no image", Skipped("missing_image"), good[1], good[2]], {4: Skipped("x")}
    )
    features = embed_images(dataset, load_backbone("tiny", tmp_path), tmp_path)
    assert tuple(read_contents(dataset, 2)) == features.contents
    assert features.contents[4] is None


def test_a_setting_that_only_one_side_has_is_a_difference(split):
    """A record of an older version, without a setting that there is now, is another run."""
    record = new_record({"old": 1}, {"labels": "x", "titles": []}, split)
    assert differences(record, {"new": 2}, {"labels": "x", "titles": []}) == [
        "new None there, 2 now",
        "old 1 there, None now",
    ]


def test_changed_versions_are_named(split):
    """Only packages that were recorded and differ are named."""
    record = new_record({}, {}, split)
    assert changed_versions(record) == []
    found = versions()
    record["versions"] = found | {"numpy": "1.0", "gone": "1"}
    assert changed_versions(record) == [f"numpy 1.0 then, {found['numpy']} now"]


@pytest.mark.train
def test_the_backbone_and_its_plan_are_kept():
    """Name, size, digest, where the weights came from and how the network runs here."""
    from assay.embed.device import Plan

    half = (0.5, 0.5, 0.5)
    plan = Plan("bfloat16", "channels_last", 16)
    run = (plan, None, (), "stages", "sharp")
    network = TimmBackbone("net", 160, 768, "d" * 64, "package", half, half, *run)
    assert backbone_facts(network) == {
        "name": "net",
        "size": 160,
        "digest": "d" * 64,
        "weights_from": "package",
        "plan": vars(plan),
    }
    assert set(backbone_facts(TinyBackbone())) == {"name", "size", "digest"}


def test_the_machine_is_described():
    """CPUs and threads are counted, the platform is named."""
    found = machine()
    assert found["cpus"] >= 1
    assert found["threads"] >= 1
    assert found["platform"]
