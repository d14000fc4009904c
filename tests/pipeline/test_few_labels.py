"""Data at their limits end in a message or a documented mode, never in a stack trace (faults 38, 39)."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_runs import CLASSES, write_labels

from assay.errors import LabelError, UsageError
from assay.pipeline.finished import open_run
from assay.pipeline.plan import plan_labels
from assay.pipeline.result import load_run
from assay.pipeline.run import run
from assay.report.write import write_report
from assay.types import ignore_message


@pytest.fixture
def run_with(own_data, options, tmp_path):
    """A run in which only ``rows`` are trusted, with the noisy labels as they are, or changed."""

    def start(rows=None, noisy=None, truth=own_data.truth, notify=ignore_message, read=own_data.read):
        if rows is not None:
            write_labels(own_data.folder / "trusted.csv", rows, truth[rows])
        if noisy is not None:
            write_labels(own_data.folder / "noisy.csv", range(len(noisy)), noisy)
        options_ = replace(options, read=read)
        return run(own_data.images, tmp_path / "out", options_, notify=notify)

    return start


def right(result, truth, rows=slice(None)) -> float:
    """The share of right labels among the corrected ones, of which each is confident to some degree."""
    table = result.labels.frame
    assert table["confidence"].is_finite().all()
    words = np.array(CLASSES)[truth]
    return float((table["corrected_label"].to_numpy() == words)[rows].mean())


def test_too_few_labels_are_refused(run_with):
    """A trusted file without a label, and labels of one class only leave nothing to rest on (fault 38)."""
    with pytest.raises(LabelError, match=r"expected trusted labels in the --trusted file, got none; leave"):
        run_with(rows=[])
    rows = np.flatnonzero(np.arange(240) % 3 == 0)
    message = r"noisy.csv: expected labels of two classes or more, got only 'ash'"
    with pytest.raises(LabelError, match=message):
        run_with(rows=rows, truth=np.zeros(240, dtype=int), noisy=np.zeros(240, dtype=int))


def test_without_trusted_labels_nothing_is_claimed(run_with, own_data, tmp_path):
    """Labels are corrected and a model is saved; no accuracy, a bracket, and a list of images to label."""
    notes = []
    (own_data.folder / "trusted.csv").unlink()
    result = run_with(read=replace(own_data.read, trusted=None), notify=notes.append)
    assert right(result, own_data.truth) > np.mean(own_data.noisy == own_data.truth) + 0.1
    assert not result.evaluation
    assert (result.noise.n_pairs, result.noise.rate.level, result.better_than_baseline) == (0, 0.0, None)
    assert any("No trusted label shows how wrong the labels are" in note for note in notes)
    with (tmp_path / "out" / "plan.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["part"] for row in rows] == ["random"] * 50 + ["doubtful"] * 50
    opened = open_run(tmp_path / "out", own_data.images, command="plan")
    plan = plan_labels(opened, tmp_path, more=[], label=50)
    planned = [opened.names[row] for row in (*plan.random, *plan.doubtful)]
    assert planned == [row["file"] for row in rows]
    assert load_run(tmp_path / "out").facts["labels"]["accuracy"] is None
    page = write_report(tmp_path / "out", tmp_path / "report.html").page.read_text()
    assert "No label was checked, and nothing is measured" in page
    assert "95 % intervals" not in page.partition('id="noise"')[0]


def test_a_trusted_label_of_each_class_is_enough_to_run(run_with, own_data):
    """Of three labels none is held out, so the accuracy of the model is not measured."""
    result = run_with(rows=[int(np.flatnonzero(own_data.truth == label)[0]) for label in range(3)])
    assert "assay" not in result.evaluation
    assert result.labels.frame["confidence"].is_finite().all()


def test_a_class_without_trusted_labels_is_still_corrected(run_with, own_data):
    """Its noisy labels are used, and the lack is a note."""
    rows, notes = own_data.trusted_rows[own_data.truth[own_data.trusted_rows] != 2], []
    result = run_with(rows=rows, notify=notes.append)
    assert any("classes without a trusted label: 'cedar'" in note for note in notes)
    assert right(result, own_data.truth, own_data.truth == 2) > 0.3


def test_trusted_labels_for_all_images_are_enough(run_with, own_data):
    """A run may train on trusted images alone; hidden files among the images are no images."""
    notes = []
    (own_data.images / ".ipynb_checkpoints").mkdir()
    (own_data.images / ".ipynb_checkpoints" / "0.png").write_bytes((own_data.images / "0.png").read_bytes())
    (own_data.images / "._1.png").write_bytes(b"x")  # of a file manager (fault 28)
    result = run_with(rows=np.arange(240), notify=notes.append)
    assert result.evaluation["assay"].accuracy.estimate > 0.9
    assert result.facts["labels"]["counts"]["trusted"] == 240 - 48
    assert len(result.labels) == 240
    assert any("hidden" in note for note in notes)


def test_labels_that_never_agree_are_reported(run_with, own_data):
    """Trusted labels that contradict every noisy one give a rate of 1 and a warning."""
    result = run_with(noisy=(own_data.truth + 1) % 3)
    assert result.noise.rate.estimate == 1
    assert "none of 120 noisy labels equals its trusted label" in " ".join(result.warnings)
    assert right(result, own_data.truth) > 0.9


def test_right_labels_are_left_alone(run_with, own_data):
    """Where no label is wrong nothing is changed, and the rate is 0 with an interval."""
    result = run_with(noisy=own_data.truth)
    assert result.noise.rate.estimate == 0
    assert result.noise.rate.high < 0.06
    assert result.facts["labels"]["counts"]["changed"] == 0
    assert "corrected labels are not measurably better than the noisy ones" in " ".join(result.warnings)


def test_images_of_one_colour_have_finite_probabilities(run_with, own_data):
    """Where no image shows anything, each is labelled, and the model is not said to beat the baseline."""
    for row in range(240):
        Image.new("RGB", (32, 32), (row, row, row)).save(own_data.images / f"{row}.png")
    result = run_with()
    assert result.labels.frame["confidence"].is_finite().all()
    assert result.labels.frame["confidence"].min() > 0
    assert result.better_than_baseline is not True


def test_no_usable_image_is_refused(run_with, own_data):
    """If nothing can be decoded nothing can be trained."""
    for row in range(240):
        (own_data.images / f"{row}.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"expected at least 5 usable images to train on, got 0"):
        run_with()
