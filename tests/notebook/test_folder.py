"""The folder of a comparison, and all its models on the same images."""

import json
import os
import shutil

import numpy as np
import pytest
from planted import quick
from small_compare import compare_options, entry_of, save_models
from small_runs import draw_data, write_labels

from assay.data.dataset import ReadOptions
from assay.errors import BusyError, ModelError, OtherRunError, UsageError
from assay.notebook.folder import CompareFolder, evaluate_lineup, predict_lineup
from assay.notebook.systems import histogram
from assay.notebook.work import train
from assay.pipeline.folder import SCHEMA
from assay.predict.predictor import load_model
from assay.types import ignore_message, silent


@pytest.fixture
def folder(tmp_path):
    """A place where nothing is yet."""
    return CompareFolder(tmp_path / "new")


def test_free_places_and_our_own_are_taken(folder, own_run):
    """Nothing there, an empty folder, one with a comparison, one with a run; nothing is written yet."""
    folder.check()
    assert not folder.path.exists()
    folder.path.mkdir()
    (folder.path / ".hidden").write_text("")
    folder.check()
    folder.write({"schema": SCHEMA})
    (folder.path / "models").mkdir()
    folder.check()
    CompareFolder(own_run).check()


def test_a_place_with_other_files_is_refused(folder, own_run):
    """Empty but for them, or with a run beside files of our names; and a file is no folder."""
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("dear")
    with pytest.raises(OtherRunError, match=r"expected an empty folder, or one that holds a run or a comp"):
        folder.check()
    with pytest.raises(UsageError, match="expected a folder for the results, got a file"):
        CompareFolder(folder.path / "notes.txt").check()
    (own_run / "pictures").mkdir()
    with pytest.raises(OtherRunError, match="found other files; name another with --out"):
        CompareFolder(own_run).check()


def test_two_comparisons_do_not_share_a_folder(folder):
    """The message names the process that holds it; a run in the same folder is no rival (fault 50)."""
    with folder.lock():
        with pytest.raises(BusyError, match=rf"another comparison \(process {os.getpid()}\) holds this fol"):
            CompareFolder(folder.path).lock().__enter__()
        with folder.run.lock():
            pass
    assert not (folder.path / ".compare.pid").exists()


def test_half_written_files_are_deleted(folder):
    """Those of a killed comparison go when the next one begins; those of a run at work stay."""
    places = [folder.path, folder.path / "pictures", folder.beside("cnn-1"), folder.beside("assay")]
    halves = [place / ".0123456789abcdef.tmp" for place in places]
    for half in halves:
        half.parent.mkdir(parents=True, exist_ok=True)
    with folder.run.lock():
        halves[0].write_text("half")
        with folder.lock():
            assert halves[0].exists()
    for half in halves:
        half.write_text("half")
    with folder.lock():
        assert not list(folder.path.rglob("*.tmp"))


def test_clearing_deletes_what_a_comparison_wrote_and_nothing_else(small_data, own_run, tmp_path):
    """The run stays, and so does a file that somebody put there."""
    folder = CompareFolder(own_run)
    before = [path for path in own_run.rglob("*") if ".lock" not in path.name]
    options = compare_options(small_data, tmp_path / "cache")
    for system in ("cnn-1", "cnn-2"):
        train(entry_of(small_data, own_run, options, system), ignore_message, silent)
    for name in ("compare.csv", "compare.md", "pictures/samples.svg", "models/cnn-1/history.svg"):
        (own_run / name).parent.mkdir(exist_ok=True)
        (own_run / name).write_text("")
    folder.write({"schema": SCHEMA})
    mine = folder.beside("cnn-2") / "notes.txt"
    mine.write_text("dear")
    folder.clear()
    left = {path for path in own_run.rglob("*") if ".lock" not in path.name}
    assert left == {*before, mine, mine.parent, mine.parent.parent}


# All its models on the same images.

LEARNED = {"histogram": histogram, "model-2": quick, "assay": quick}


@pytest.fixture(scope="module")
def models(small_data, tmp_path_factory):
    """A folder with three models; not to be changed."""
    place = tmp_path_factory.mktemp("lineup")
    return save_models(small_data, place / "out", place / "cache", LEARNED)


@pytest.fixture
def own_models(models, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(models, tmp_path / "out")


@pytest.fixture
def new(tmp_path):
    """12 new images under numbers, in a folder of their own."""
    return draw_data(tmp_path / "new", 12, seed=5)


def test_each_model_predicts_as_it_does_alone(models, new):
    """In the notebook's order, or in that of the named columns; images by their stems, in natural order."""
    found = predict_lineup(models, new.images)
    assert found.header == ("Index", "Baseline", "Model II", "Assay")
    index, *columns = found.columns
    assert index == [str(row) for row in range(12)]
    for system, column in zip(LEARNED, columns, strict=True):
        place = models / ("model" if system == "assay" else f"models/{system}")
        assert column == load_model(place).predict(new.images).columns()[1]
    assert columns[1] != columns[0]
    found = predict_lineup(models, new.images, ["model-2", "Index", "Baseline"])
    assert (found.header, found.columns) == (
        ("Model II", "Index", "Baseline"),
        [columns[1], index, columns[0]],
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["Index", "Model 2"], r"--columns: .* got 'Model 2'; .*out has Index, Baseline, Model II, Assay$"),
        (["cnn-1"], r"got 'CNN 1'; .*out has Index"),
        (["Index"], r"--columns: expected systems, each once, got Index$"),
        (["Assay", "assay"], r"expected systems, each once, got Assay, Assay$"),
    ],
)
def test_a_column_that_does_not_exist_is_refused(models, new, columns, message):
    """The message names those that exist."""
    with pytest.raises(UsageError, match=message):
        predict_lineup(models, new.images, columns)


def test_only_systems_with_figures_are_there(own_models, new):
    """One that failed is no column, though its files are there; a folder without any model is refused."""
    rows = [{"system": system, "status": "done"} for system in LEARNED]
    rows[1]["status"] = "failed"
    (own_models / "compare.json").write_text(json.dumps({"schema": SCHEMA, "rows": rows}))
    (own_models / "models" / "histogram" / "manifest.json").unlink()
    assert predict_lineup(own_models, new.images).header == ("Index", "Assay")
    with pytest.raises(ModelError, match="expected the folder of a comparison, with the models of its sys"):
        predict_lineup(new.folder, new.images)


def test_a_damaged_model_is_refused(own_models, new):
    """All columns or none: a changed byte is not left out in silence."""
    with (own_models / "models" / "model-2" / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="sha256"):
        predict_lineup(own_models, new.images)


def test_each_model_is_evaluated(models, new):
    """Accuracy is the share of its labels that are right, all on the same images."""
    labels = ReadOptions(trusted=write_labels(new.folder / "labels.csv", range(12), new.truth))
    found = evaluate_lineup(models, new.images, labels)
    truth = np.array(["ash", "birch", "cedar"])[new.truth]
    for system, column in zip(LEARNED, predict_lineup(models, new.images).columns[1:], strict=True):
        assert found[system].accuracy.estimate == pytest.approx(np.mean(np.array(column) == truth))
        assert (found[system].n, found[system].skipped, found[system].source) == (12, 0, "test set")
    assert found["assay"].accuracy.estimate > 0.9
