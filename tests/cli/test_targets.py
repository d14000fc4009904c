"""Files that a command writes."""

import shutil
import zipfile

import pytest


@pytest.mark.parametrize(
    "place", ["images.zip", "new/0.png", "run/model/config.json", "run/labels.csv", "lone.onnx"]
)
def test_what_is_read_is_not_written_over(assay, finished, small_data, tmp_path, place):
    """An archive of images, one of the images, a file of the model or of the run: rows go elsewhere."""
    shutil.copytree(finished, tmp_path / "run")
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(small_data.images / "0.png", new)
    shutil.copy(finished / "model" / "model.onnx", tmp_path / "lone.onnx")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(new / "0.png", "0.png")
    before = (tmp_path / place).read_bytes()
    model = tmp_path / (place if place.endswith("onnx") else "run")
    images = tmp_path / place if place.endswith("zip") else new
    noisy = assay("predict", model, images, "-o", tmp_path / place, "--format", "csv")
    assert noisy.code == 2
    assert "--out: " in noisy.err
    assert (tmp_path / place).read_bytes() == before


def test_rows_may_lie_in_the_folder_of_a_run(assay, finished, small_data, tmp_path):
    """Under a name of their own, also a second time."""
    shutil.copytree(finished, tmp_path / "run")
    for _ in range(2):
        rows = tmp_path / "run" / "predictions.csv"
        assert assay("predict", tmp_path / "run", small_data.images, "-o", rows, "-q").code == 0


@pytest.mark.parametrize("out", ["small", "small.bin", "run/model/README"])
def test_an_export_is_known_by_its_name(assay, finished, tmp_path, out):
    """What no command would take for a model is refused before the work; so is a card over a card."""
    shutil.copytree(finished, tmp_path / "run")
    noisy = assay("export", finished, "-o", tmp_path / out)
    assert noisy.code == 2
    assert "--out: " in noisy.err


def test_a_name_that_no_disk_holds_is_refused(assay, finished, small_data, tmp_path):
    """Of more letters than a file may have."""
    noisy = assay("predict", finished, small_data.images, "-o", tmp_path / f"{'a' * 300}.csv")
    assert noisy.code == 2
    assert "File name too long; choose another place" in noisy.err


def test_a_folder_that_is_not_there_is_refused_with_a_format_too(assay, finished, small_data, tmp_path):
    """Before every model of a comparison is asked."""
    noisy = assay("predict", finished, small_data.images, "--format", "csv", "-o", tmp_path / "no" / "x.csv")
    assert noisy.code == 2
    assert "make its folder" in noisy.err
