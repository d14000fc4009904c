"""Images whose file is cut, or larger than usual: skipped, or used if the command says so."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from assay.cli.predict import PlaceFlags
from assay.data.limits import Limits
from assay.pipeline.finished import read_finished_run


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
    noisy = assay(*cut_data.command(out))
    assert noisy.code == 0
    assert action_of(out, "2.png") == "skipped"
    assert "1 truncated (what there is of cut files: --truncated accept)" in noisy.err
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
    plain = PlaceFlags()
    others = PlaceFlags(truncated="accept"), PlaceFlags(max_pixels=9)
    for place in (Path("-"), Path(__file__), Path(__file__).parent):
        assert len({one.whereabouts(place, []) for one in (plain, *others)}) == 3


@pytest.fixture
def large_data(own_data):
    """The same, of images of which one is larger than the others."""
    for row in range(240):
        file = own_data.images / f"{row}.png"
        with Image.open(file) as image:
            image.resize((33, 33) if row == 2 else (24, 24)).save(file)
    return own_data


def test_larger_images_are_used_if_told_to(assay, large_data, tmp_path):
    """The flag is named where one was skipped; later commands know what the run was told."""
    out = tmp_path / "out"
    noisy = assay(*large_data.command(out, "--max-pixels", "800"))
    assert noisy.code == 0
    assert action_of(out, "2.png") == "skipped"
    assert "1 too_many_pixels (larger images: --max-pixels)" in noisy.err
    assert "another --max-pixels" in assay(*large_data.command(out, "--max-pixels", "2000")).err
    assert assay(*large_data.command(out, "--max-pixels", "2000", "--overwrite")).code == 0
    assert action_of(out, "2.png") != "skipped"
    assert read_finished_run(out).reading.limits.max_pixels == 2000
    assert assay("audit", out, "-q").code == 0
    assert assay(*large_data.command(tmp_path / "again", "--max-pixels", "800")).code == 0
    assert action_of(tmp_path / "again", "2.png") == "skipped"  # though its features are stored by now
    for pixels, status in ((800, "too_many_pixels"), (2000, "ok")):
        rows = assay("predict", out, large_data.images, "-q", "--max-pixels", pixels).out.splitlines()
        assert next(row for row in rows if row.startswith("2.png,")).endswith(f",{status}")


def test_files_of_larger_images_may_be_larger():
    """Four bytes a pixel, but never less than usual."""
    assert Limits.of(10) == Limits(max_pixels=10)
    assert Limits.of(50_000_000) == Limits()
    assert Limits.of(200_000_000) == Limits(800_000_000, 200_000_000)
