"""Images whose file is cut: skipped, or used as far as they go."""

import csv
import json
from pathlib import Path

import pytest

from assay.cli.predict import PlaceFlags


@pytest.fixture
def cut_data(own_data):
    """The same with a file that lost its second half."""
    file = own_data.images / "2.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return own_data


def action_of(folder, name: str) -> str:
    with (folder / "labels.csv").open() as table:
        return next(row["action"] for row in csv.DictReader(table) if row["name"] == name)


def test_a_run_uses_what_there_is_of_a_cut_image_if_told_to(assay, cut_data, tmp_path):
    """By default it is skipped, and it is said how to use it; what one run stored changes no other."""
    out = tmp_path / "out"
    given = assay(*cut_data.command(out))
    assert given.code == 0
    assert action_of(out, "2.png") == "skipped"
    refused = assay(*cut_data.command(out, "--truncated", "accept"))
    assert refused.code == 2
    assert "another --truncated" in refused.err
    assert assay(*cut_data.command(out, "--truncated", "accept", "--overwrite")).code == 0
    assert action_of(out, "2.png") != "skipped"
    assert json.loads((out / "run.json").read_text())["reading"]["truncated"] == "accept"
    for later in (("audit", out), ("export", out, "-o", tmp_path / "model.onnx", "--precision", "float32")):
        assert assay(*later, "-q").code == 0
    assert assay(*cut_data.command(tmp_path / "again")).code == 0
    assert action_of(tmp_path / "again", "2.png") == "skipped"


def test_new_images_are_predicted_as_far_as_they_go_if_told_to(assay, finished, cut_data):
    """The rows of the others stay as they are."""
    plain = assay("predict", finished, cut_data.images, "-q")
    assert "2.png,,,truncated" in plain.out.splitlines()
    accepted = assay("predict", finished, cut_data.images, "-q", "--truncated", "accept").out
    assert "truncated" not in accepted
    changed = set(accepted.splitlines()) - set(plain.out.splitlines())
    assert len(changed) == 1
    assert changed.pop().startswith("2.png,")


def test_a_test_set_has_its_cut_images_too_if_told_to(assay, finished, cut_data):
    """And says otherwise how they could be used."""
    labels = cut_data.images.parent / "trusted.csv"
    command = ("evaluate", finished, cut_data.images, "--labels", labels, "--json")
    plain, accepted = assay(*command), assay(*command, "--truncated", "accept")
    assert json.loads(plain.out)["skipped"] == 1
    assert json.loads(accepted.out)["skipped"] == 0
    assert json.loads(accepted.out)["n"] == json.loads(plain.out)["n"] + 1


def test_which_images_are_cut_belongs_to_the_command():
    """Rows that were written without them are not gone on with."""
    plain, accepting = PlaceFlags(), PlaceFlags(truncated="accept")
    for place in (Path("-"), Path(__file__), Path(__file__).parent):
        assert plain.whereabouts(place, []) != accepting.whereabouts(place, [])
