"""Files that a command writes."""

import shutil
import zipfile

import pytest


@pytest.mark.parametrize("place", ["images.zip", "new/0.png", "run/model/config.json", "lone.onnx"])
def test_what_is_read_is_not_written_over(assay, finished, small_data, tmp_path, place):
    """An archive of images, one of the images, a file of the model: rows go elsewhere."""
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
    given = assay("predict", model, images, "-o", tmp_path / place, "--format", "csv")
    assert given.code == 2
    assert "--out: expected" in given.err
    assert (tmp_path / place).read_bytes() == before
