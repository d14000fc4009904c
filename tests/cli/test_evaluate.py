"""assay evaluate: a model on labelled images."""

import json
import re
import shutil

import pytest
from small_runs import draw_data, write_labels
from written import change, without_figures

REPORT = """\
 precision recall f1-score support

 ash N N N 10
 birch N N N 10
 cedar N N N 10

 accuracy N 30
 macro avg N N N 30
weighted avg N N N 30

accuracy N % (95 % interval N to N, n = 30); balanced accuracy N % (N to N); calibration error N; skipped 0
"""

TABLE_OF_ALL = """\
 accuracy 95 % interval balanced accuracy macro F1 images
Baseline N % N to N N % (N to N) N 30
CNN 1 N % N to N N % (N to N) N 30
CNN 2 N % N to N N % (N to N) N 30
Model I N % N to N N % (N to N) N 30
Model II N % N to N N % (N to N) N 30
Assay N % N to N N % (N to N) N 30
"""


@pytest.fixture
def unseen(tmp_path):
    """30 new images with their labels."""
    data = draw_data(tmp_path / "test", 30, seed=5)
    write_labels(data.folder / "labels.csv", range(30), data.truth)
    return data


@pytest.fixture
def old_unseen(unseen):
    """The same with the class names that the models of the comparison know."""
    change(unseen.folder / "labels.csv", ",ash", ',"ash, ""old"""')
    return unseen


@pytest.fixture
def words(unseen):
    """``assay evaluate`` for the unseen images."""
    return lambda model: ("evaluate", model, unseen.images, "--labels", unseen.folder / "labels.csv")


def test_the_printed_report_is_this(assay, words, finished):
    """scikit-learn's layout, then accuracy with its interval, calibration and skipped images."""
    found = assay(*words(finished))
    assert (found.code, found.err) == (0, "")
    assert without_figures(found.out) == REPORT
    facts = json.loads(assay(*words(finished), "--json", "-q").out)
    assert (facts["source"], facts["n"], facts["skipped"]) == ("test set", 30, 0)
    assert facts["accuracy"]["estimate"] > 0.9


def test_unknown_classes_end_with_3(refused, words, finished, unseen):
    """A label that the model does not know is refused before any image is predicted (fault 33)."""
    change(unseen.folder / "labels.csv", "cedar", "ceder")
    refused(3, "'ceder' is not a class of the model; did you mean 'cedar'?", *words(finished))


def test_skipped_images_end_with_4_when_strict(assay, words, finished, unseen):
    """A damaged image is counted, and so are images without a label."""
    file = unseen.folder / "labels.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:21]))
    (unseen.images / "0.png").write_bytes(b"")
    found = assay(*words(finished))
    assert (found.code, "n = 19)" in found.out) == (0, True)
    assert "too small to measure" in found.err
    assert found.out.rstrip().endswith("skipped 1; without a label 10")
    assert assay(*words(finished), "--strict").code == 4


def test_labels_are_needed(refused, finished, unseen):
    """Without labels there is nothing to compare with."""
    refused(2, "--labels", "evaluate", finished, unseen.images)


def test_all_systems_are_evaluated_on_the_same_images(assay, words, lineup, old_unseen):
    """A line of the table for each model, in the notebook's order; as JSON its id and the whole report."""
    found = assay(*words(lineup), "--all-systems")
    assert (found.code, found.err) == (0, "")
    assert without_figures(found.out) == TABLE_OF_ALL
    (old_unseen.images / "3.png").write_bytes(b"")
    rows = json.loads(assay(*words(lineup), "--all-systems", "--json").out)["rows"]
    assert [row["system"] for row in rows] == ["histogram", "cnn-1", "cnn-2", "model-1", "model-2", "assay"]
    assert {(row["n"], row["skipped"]) for row in rows} == {(29, 1)}
    assert rows[1]["accuracy"]["estimate"] > rows[0]["accuracy"]["estimate"]
    strict = assay(*words(lineup), "--all-systems", "--strict")
    assert (strict.code, strict.out.splitlines()[-1]) == (4, "1 images were skipped")


def test_labels_without_names_are_shown_with_their_images(assay, finished, unseen):
    """Whoever has another order sees it."""
    bare = unseen.folder / "bare.csv"
    bare.write_text(re.sub(r".*,", "", (unseen.folder / "labels.csv").read_text().partition("\n")[2]))
    command = ["evaluate", finished, unseen.images, "--labels", bare]
    assert {"bare.csv", "0.png"} <= {*re.findall(r"[\w.]+", assay(*command).err)}
    assert assay(*command, "-q").err == ""


def test_images_of_the_run_are_no_test(assay, words, finished, lineup, small_data, unseen, tmp_path):
    """A run or a comparison that was trained on them is warned of."""
    labels = ("--labels", small_data.folder / "trusted.csv")
    found = assay("evaluate", finished, small_data.images, *labels)
    assert found.code == 0
    assert found.err.startswith(f"warning: {small_data.images} are the images of the run {finished}")
    own = shutil.copytree(lineup, tmp_path / "own")
    (own / "run.json").write_text(json.dumps({"images": str(unseen.images.resolve())}))
    assert "expect a lower accuracy on new images" in assay(*words(own), "--all-systems").err
    assert "warning" not in assay(*words(own), "--all-systems", "-q").err
