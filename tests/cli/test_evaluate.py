"""assay evaluate: a model on labelled images."""

import json
import re
import shutil

import pytest
from small_runs import draw_data, write_labels

REPORT = """\
              precision    recall  f1-score   support

         ash       F      F      F        10
       birch       F      F      F        10
       cedar       F      F      F        10

    accuracy                           F        30
   macro avg       F      F      F        30
weighted avg       F      F      F        30

accuracy NN % (95 % interval NN to NN, n = 30); calibration error 0.NNN; skipped 0
"""


@pytest.fixture
def unseen(tmp_path):
    """30 new images with their labels."""
    data = draw_data(tmp_path / "test", 30, seed=5)
    write_labels(data.folder / "labels.csv", range(30), data.truth)
    return data


@pytest.fixture
def evaluate(assay, unseen):
    """Give ``assay evaluate`` for the unseen images."""
    labels = unseen.folder / "labels.csv"
    return lambda model, *more: assay("evaluate", model, unseen.images, "--labels", labels, *more)


def test_the_printed_report_is_this(evaluate, finished):
    """scikit-learn's layout, then accuracy with its interval, calibration and skipped images."""
    found = evaluate(finished)
    assert (found.code, found.err) == (0, "")
    text = re.sub(r"0\.\d{3}\b", "0.NNN", found.out)
    text = re.sub(r"\d+\.\d( %| to|,)", r"NN\1", text)
    text = re.sub(r"\b[01]\.\d\d\b", "F", text)
    assert re.sub(r" +", " ", text) == re.sub(r" +", " ", REPORT)
    facts = json.loads(evaluate(finished, "--json", "-q").out)
    assert (facts["source"], facts["n"], facts["skipped"]) == ("test set", 30, 0)
    assert facts["accuracy"]["estimate"] > 0.9


def test_unknown_classes_end_with_3(evaluate, finished, unseen):
    """A label that the model does not know is refused before any image is predicted (fault 33)."""
    file = unseen.folder / "labels.csv"
    file.write_text(file.read_text().replace("cedar", "ceder"))
    found = evaluate(finished)
    assert (found.code, found.out) == (3, "")
    assert "'ceder' is not a class of the model; did you mean 'cedar'?" in found.err


def test_skipped_images_end_with_4_when_strict(evaluate, finished, unseen):
    """A damaged image is counted, and so are images without a label."""
    file = unseen.folder / "labels.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:21]))
    (unseen.images / "0.png").write_bytes(b"")
    found = evaluate(finished)
    assert found.code == 0
    assert "n = 19)" in found.out
    assert found.out.rstrip().endswith("skipped 1; without a label 10")
    assert evaluate(finished, "--strict").code == 4


def test_labels_are_needed(assay, finished, unseen):
    """Without labels there is nothing to compare with."""
    found = assay("evaluate", finished, unseen.images)
    assert (found.code, "--labels" in found.err) == (2, True)


TABLE_OF_ALL = """\
          accuracy  95 % interval  macro F1  images
Baseline  NN %      NN to NN       F         30
CNN 1     NN %      NN to NN       F         30
CNN 2     NN %      NN to NN       F         30
Model I   NN %      NN to NN       F         30
Model II  NN %      NN to NN       F         30
Assay     NN %      NN to NN       F         30
"""


@pytest.fixture
def old_unseen(unseen):
    """The same with the class names that the models of the comparison know."""
    file = unseen.folder / "labels.csv"
    file.write_text(file.read_text().replace(",ash", ',"ash, ""old"""'))
    return unseen


def test_all_systems_are_evaluated_in_one_table(evaluate, lineup, old_unseen):
    """A line for each model, in the notebook's order, all on the same images."""
    found = evaluate(lineup, "--all-systems")
    assert (found.code, found.err) == (0, "")
    text = re.sub(r"0\.\d{3}\b|1\.000", "F", found.out)
    text = re.sub(r"\d+\.\d( %| to|\s)", r"NN\1", text)
    assert re.sub(r" +", " ", text) == re.sub(r" +", " ", TABLE_OF_ALL)


def test_json_of_all_systems_has_a_row_for_each(evaluate, lineup, old_unseen):
    """Each with its id, its title and the whole report; skipped images count for all."""
    (old_unseen.images / "3.png").write_bytes(b"")
    rows = json.loads(evaluate(lineup, "--all-systems", "--json").out)["rows"]
    assert [row["system"] for row in rows] == ["histogram", "cnn-1", "cnn-2", "model-1", "model-2", "assay"]
    assert {(row["n"], row["skipped"]) for row in rows} == {(29, 1)}
    assert rows[1]["accuracy"]["estimate"] > rows[0]["accuracy"]["estimate"]
    strict = evaluate(lineup, "--all-systems", "--strict")
    assert (strict.code, strict.out.splitlines()[-1]) == (4, "1 images were skipped")


def test_labels_without_names_are_shown_with_their_images(assay, finished, unseen):
    """Whoever has another order sees it."""
    lines = (unseen.folder / "labels.csv").read_text().splitlines()[1:]
    (unseen.folder / "bare.csv").write_text("".join(line.split(",")[1] + "\n" for line in lines))
    command = ["evaluate", finished, unseen.images, "--labels", unseen.folder / "bare.csv"]
    found = assay(*command).err
    assert "bare.csv" in found
    assert "0.png" in found
    assert assay(*command, "-q").err == ""


def test_images_of_the_run_are_no_test(assay, evaluate, finished, lineup, small_data, unseen, tmp_path):
    """A run or a comparison that was trained on them is warned of."""
    labels = ("--labels", small_data.folder / "trusted.csv")
    found = assay("evaluate", finished, small_data.images, *labels)
    assert found.code == 0
    assert found.err.startswith(f"warning: {small_data.images} are the images of the run {finished}")
    own = shutil.copytree(lineup, tmp_path / "own")
    (own / "run.json").write_text(json.dumps({"images": str(unseen.images.resolve())}))
    assert "expect a lower accuracy on new images" in evaluate(own, "--all-systems").err
    assert "warning" not in evaluate(own, "--all-systems", "-q").err
