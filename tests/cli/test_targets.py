"""Files that a command writes: nothing that is read or belongs to a run is written over."""

import shutil
import zipfile

import pytest


@pytest.mark.parametrize(
    "place", ["images.zip", "new/0.png", "out/model/config.json", "out/labels.csv", "lone.onnx"]
)
def test_the_input_is_not_written_over(refused, run, small_data, tmp_path, place):
    """An archive of images, one of the images, a file of the model or of the run."""
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(small_data.images / "0.png", new)
    shutil.copy(run / "model" / "model.onnx", tmp_path / "lone.onnx")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(new / "0.png", "0.png")
    target = tmp_path / place
    before = target.read_bytes()
    model, images = target if place.endswith("onnx") else run, target if place.endswith("zip") else new
    refused(2, "--out: ", "predict", model, images, "-o", target, "--format", "csv")
    assert target.read_bytes() == before


def test_rows_may_lie_in_the_folder_of_a_run(assay, run, small_data):
    """Under a name of their own, also a second time."""
    for _ in range(2):
        assert assay("predict", run, small_data.images, "-o", run / "predictions.csv", "-q").code == 0


@pytest.mark.parametrize(
    ("command", "out", "message"),
    [
        ("predict", "rows.txt", "expected a name ending in .csv, .parquet, .jsonl, got rows.txt"),
        ("predict", ".", "expected a file, got the folder .; name a file in it"),
        ("predict", "nowhere/rows.csv", "expected a file in an existing folder, got nowhere/rows.csv"),
        ("predict", f"{'a' * 300}.csv", "File name too long; choose another place"),
        ("export", "nowhere/a.onnx", "make its folder"),
        ("export", "small", "expected a name ending in .onnx"),
        ("report", "found.pdf", "expected a name ending in .html, got found.pdf"),
        ("report", "nowhere/a.html", "make its folder"),
    ],
)
def test_an_impossible_file_is_refused_before_the_work(refused, finished, command, out, message):
    """The name is checked before any image is looked for."""
    more = ["nowhere"] if command == "predict" else []
    assert "--out: " in refused(2, message, command, finished, *more, "-o", out)


@pytest.mark.parametrize("out", ["README", "model.onnx"])
def test_a_card_does_not_replace_a_file_of_the_run(refused, run, out):
    """Nor does an export replace the model."""
    refused(2, "--out: ", "export", run, "-o", run / "model" / out)
