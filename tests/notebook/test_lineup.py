"""All models of a comparison on the same images."""

import json
import shutil

import numpy as np
import pytest
from planted import quick
from small_compare import save_models
from small_runs import draw_data, write_labels

from assay.data.dataset import ReadOptions
from assay.errors import DataError, LabelError, ModelError, UsageError
from assay.notebook.lineup import evaluate_lineup, models_in, predict_lineup
from assay.notebook.systems import histogram
from assay.pipeline.folder import SCHEMA
from assay.predict.predictor import load_model

LEARNED = {"histogram": histogram, "model-2": quick, "assay": quick}


@pytest.fixture(scope="module")
def compared(small_data, tmp_path_factory):
    """A folder with three models; not to be changed."""
    place = tmp_path_factory.mktemp("lineup")
    return save_models(small_data, place / "out", place / "cache", LEARNED)


@pytest.fixture
def new(tmp_path):
    """12 new images under numbers, in a folder of their own."""
    return draw_data(tmp_path / "new", 12, seed=5)


def test_each_model_predicts_as_it_does_alone(compared, new):
    """In the notebook's order, the images in natural order, named by their stems."""
    found = predict_lineup(compared, new.images)
    assert list(found.found) == list(LEARNED)
    assert found.header == ("Index", "Baseline", "Model II", "Assay")
    index, *columns = found.columns()
    assert index == [str(row) for row in range(12)]
    for system, column in zip(LEARNED, columns, strict=True):
        place = compared / ("model" if system == "assay" else f"models/{system}")
        assert column == load_model(place).predict(new.images).columns()[1]
    assert columns[1] != columns[0]


def test_columns_are_chosen_by_title_or_id(compared, new):
    """In the order in which they were named; only the named systems are computed."""
    found = predict_lineup(compared, new.images, ["model-2", "Index", "Baseline"])
    assert found.header == ("Model II", "Index", "Baseline")
    assert list(found.found) == ["histogram", "model-2"]
    assert found.columns()[1] == [str(row) for row in range(12)]
    alone = predict_lineup(compared, new.images, ["Assay"])
    assert (alone.header, list(alone.found)) == (("Assay",), ["assay"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["Index", "Model 2"], r"--columns: .* got 'Model 2'; .*out has Index, Baseline, Model II, Assay$"),
        (["CNN 1"], r"got 'CNN 1'; .*out has Index, Baseline, Model II, Assay$"),
        (["cnn-1"], r"got 'CNN 1'; .*out has Index"),
        (["Index"], r"--columns: expected systems, each once, got Index$"),
        (["Assay", "assay"], r"expected systems, each once, got Assay, Assay$"),
        ([""], r"expected columns that exist, got ''"),
    ],
)
def test_a_column_that_does_not_exist_is_refused(compared, new, columns, message):
    """The message names those that exist."""
    with pytest.raises(UsageError, match=message):
        predict_lineup(compared, new.images, columns)


def test_an_image_that_cannot_be_used_keeps_its_row(compared, new):
    """Its index is there, no model has a label for it, and it is counted."""
    (new.images / "3.png").write_bytes(b"no image")
    found = predict_lineup(compared, new.images)
    assert [column[3] for column in found.columns()] == ["3", None, None, None]
    assert all(label is not None for column in found.columns() for label in column[:3] + column[4:])
    assert found.n_skipped == 1


def test_where_stems_are_not_unique_there_are_whole_names(compared, new):
    """``1.png`` in two folders, or beside ``1.jpg``, would be one index."""
    (new.images / "more").mkdir()
    shutil.copy(new.images / "1.png", new.images / "more" / "1.png")
    found = predict_lineup(compared, new.images)
    assert not found.has_stems
    assert found.columns()[0] == list(found.names)
    assert {"1.png", "more/1.png"} <= set(found.names)


def test_systems_that_failed_are_absent(compared, new, tmp_path):
    """A model without a figure is no column, though its files are there."""
    shutil.copytree(compared, tmp_path / "out")
    rows = [{"system": system, "status": "done"} for system in LEARNED]
    rows[1]["status"] = "failed"
    (tmp_path / "out" / "compare.json").write_text(json.dumps({"schema": SCHEMA, "rows": rows}))
    (tmp_path / "out" / "models" / "histogram" / "manifest.json").unlink()
    assert list(models_in(tmp_path / "out")) == ["assay"]
    assert predict_lineup(tmp_path / "out", new.images).header == ("Index", "Assay")


def test_a_folder_without_models_is_refused(new):
    """The message names what was expected."""
    with pytest.raises(ModelError, match="expected the folder of a comparison, with the models of its sys"):
        predict_lineup(new.folder, new.images)


def test_a_damaged_model_is_refused(compared, new, tmp_path):
    """All columns or none: a changed byte is not left out in silence."""
    shutil.copytree(compared, tmp_path / "out")
    with (tmp_path / "out" / "models" / "model-2" / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="sha256"):
        predict_lineup(tmp_path / "out", new.images)


@pytest.fixture
def labelled(new):
    """The new images with their labels."""
    return ReadOptions(trusted=write_labels(new.folder / "labels.csv", range(12), new.truth))


def test_each_model_is_evaluated(compared, new, labelled):
    """Accuracy is the share of its labels that are right; all on the same images."""
    found = evaluate_lineup(compared, new.images, labelled)
    rows = predict_lineup(compared, new.images)
    truth = np.array(["ash", "birch", "cedar"])[new.truth]
    for system, column in zip(LEARNED, rows.columns()[1:], strict=True):
        assert found[system].accuracy.estimate == pytest.approx(np.mean(np.array(column) == truth))
        assert (found[system].n, found[system].skipped, found[system].source) == (12, 0, "test set")
    assert found["assay"].accuracy.estimate > 0.9


def test_images_that_cannot_be_used_are_counted_for_all(compared, new, labelled):
    """The figures are of the others."""
    (new.images / "3.png").write_bytes(b"no image")
    found = evaluate_lineup(compared, new.images, labelled)
    assert {(one.n, one.skipped) for one in found.values()} == {(11, 1)}
    for file in new.images.iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError):
        evaluate_lineup(compared, new.images, labelled)


def test_a_label_that_no_model_knows_is_refused(compared, new, labelled):
    """Before any image is predicted."""
    text = labelled.trusted.read_text().replace("cedar", "ceder")
    labelled.trusted.write_text(text)
    with pytest.raises(LabelError, match=r"'ceder' is not a class of the model; did you mean 'cedar'\?"):
        evaluate_lineup(compared, new.images, labelled)
