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


def test_the_printed_report_is_this(assay, finished, unseen):
    """scikit-learn's layout, then accuracy with its interval, calibration and what was skipped."""
    noisy = assay("evaluate", finished, unseen.images, "--labels", unseen.folder / "labels.csv")
    assert noisy.code == 0
    assert noisy.err == ""
    text = re.sub(r"0\.\d{3}\b", "0.NNN", noisy.out)
    text = re.sub(r"\d+\.\d( %| to|,)", r"NN\1", text)
    text = re.sub(r"\b[01]\.\d\d\b", "F", text)
    assert re.sub(r" +", " ", text) == re.sub(r" +", " ", REPORT)


def test_json_has_the_whole_report(assay, finished, unseen):
    """The same figures as one object."""
    noisy = assay(
        "evaluate", finished, unseen.images, "--labels", unseen.folder / "labels.csv", "--json", "-q"
    )
    facts = json.loads(noisy.out)
    assert (facts["source"], facts["n"], facts["skipped"]) == ("test set", 30, 0)
    assert facts["accuracy"]["estimate"] > 0.9


def test_unknown_classes_end_with_3(assay, finished, unseen):
    """A label that the model does not know is refused before any image is predicted."""
    file = unseen.folder / "labels.csv"
    file.write_text(file.read_text().replace("cedar", "ceder"))
    noisy = assay("evaluate", finished, unseen.images, "--labels", file)
    assert (noisy.code, noisy.out) == (3, "")
    assert "'ceder' is not a class of the model; did you mean 'cedar'?" in noisy.err


def test_skipped_images_end_with_4_when_strict(assay, finished, unseen):
    """A damaged test image is counted; only under ``--strict`` it changes the exit code."""
    (unseen.images / "0.png").write_bytes(b"")
    command = ["evaluate", finished, unseen.images, "--labels", unseen.folder / "labels.csv"]
    noisy = assay(*command)
    assert noisy.code == 0
    assert noisy.out.rstrip().endswith("skipped 1")
    assert assay(*command, "--strict").code == 4


def test_labels_are_needed(assay, finished, unseen):
    """Without labels there is nothing to compare with."""
    noisy = assay("evaluate", finished, unseen.images)
    assert noisy.code == 2
    assert noisy.err == "assay: Missing option '--labels'; see assay evaluate -h\n"


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
    """The same with the names of classes that the models of the comparison know."""
    file = unseen.folder / "labels.csv"
    file.write_text(file.read_text().replace(",ash", ',"ash, ""old"""'))
    return unseen


def test_all_recipes_are_evaluated_in_one_table(assay, lineup, old_unseen):
    """A line for each model, in the notebook's order, all on the same images."""
    labels = old_unseen.folder / "labels.csv"
    noisy = assay("evaluate", lineup, old_unseen.images, "--labels", labels, "--all-systems")
    assert (noisy.code, noisy.err) == (0, "")
    text = re.sub(r"0\.\d{3}\b|1\.000", "F", noisy.out)
    text = re.sub(r"\d+\.\d( %| to|\s)", r"NN\1", text)
    assert re.sub(r" +", " ", text) == re.sub(r" +", " ", TABLE_OF_ALL)


def test_json_of_all_recipes_has_a_row_for_each(assay, lineup, old_unseen):
    """Each with its id, its title and the whole report; skipped images count for all."""
    (old_unseen.images / "3.png").write_bytes(b"")
    labels = old_unseen.folder / "labels.csv"
    command = ["evaluate", lineup, old_unseen.images, "--labels", labels, "--all-systems"]
    noisy = assay(*command, "--json")
    rows = json.loads(noisy.out)["rows"]
    assert [row["system"] for row in rows] == ["histogram", "cnn-1", "cnn-2", "model-1", "model-2", "assay"]
    assert {(row["n"], row["skipped"]) for row in rows} == {(29, 1)}
    assert rows[1]["accuracy"]["estimate"] > rows[0]["accuracy"]["estimate"]
    assert assay(*command).out.endswith("\n1 images could not be used\n")
    assert assay(*command, "--strict").code == 4


def test_how_labels_were_paired_is_said(assay, finished, unseen):
    """By order, where the file names no images: whoever has another order sees it."""
    lines = (unseen.folder / "labels.csv").read_text().splitlines()[1:]
    (unseen.folder / "bare.csv").write_text("".join(line.split(",")[1] + "\n" for line in lines))
    noisy = assay("evaluate", finished, unseen.images, "--labels", unseen.folder / "bare.csv")
    assert noisy.err.startswith("bare.csv: 30 labels by order of names: 0.png → ")
    assert assay("evaluate", finished, unseen.images, "--labels", unseen.folder / "bare.csv", "-q").err == ""


def test_images_without_a_label_are_counted(assay, finished, unseen):
    """They are predicted and compared with nothing."""
    file = unseen.folder / "labels.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:21]))
    noisy = assay("evaluate", finished, unseen.images, "--labels", file)
    assert "n = 20)" in noisy.out
    assert noisy.out.rstrip().endswith("skipped 0; without a label 10")


def test_images_that_were_learned_from_are_no_test(assay, finished, small_data):
    """The run knows its images: their accuracy is not that of new ones."""
    noisy = assay("evaluate", finished, small_data.images, "--labels", small_data.folder / "trusted.csv")
    assert noisy.code == 0
    assert f"warning: {small_data.images} are the images of the run {finished}, which learned" in noisy.err


def test_all_models_on_images_of_their_own_run_are_warned_of(assay, lineup, unseen, tmp_path):
    """As one model is; -q is without words."""
    own = shutil.copytree(lineup, tmp_path / "own")
    (own / "run.json").write_text(json.dumps({"images": str(unseen.images.resolve())}))
    command = ["evaluate", own, unseen.images, "--labels", unseen.folder / "labels.csv", "--all-systems"]
    warning = "which learned from all but its holdout: the accuracy is higher than"
    assert warning in assay(*command).err
    assert warning not in assay(*command, "-q").err
