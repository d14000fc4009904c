"""The tables of a run folder, against the loops that define them."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_datasets import InMemory

from assay.correct.result import CorrectedLabels
from assay.data.dataset import Dataset, Skipped
from assay.data.split import Split
from assay.evaluate import mcnemar, wilson
from assay.pipeline.outputs import corrected_figures, write_holdout, write_issues, write_labels
from assay.types import UNKNOWN

NAMES = ("a.png", "b.png", "c.png", "d.png", "e,\n.png")
GIVEN = np.array([0, 1, UNKNOWN, 1, 0])
TRUSTED = np.array([1, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN])
USABLE = np.array([True, True, True, True, False])
POSTERIOR = np.array([[0.2, 0.8], [0.05, 0.95], [0.4, 0.6], [0.9, 0.1], [0.5, 0.5]])


@pytest.fixture
def dataset() -> Dataset:
    skipped = {4: Skipped("truncated", "no end")}
    return Dataset(NAMES, InMemory([]), ("no", "yes"), GIVEN, TRUSTED, skipped=skipped)


@pytest.fixture
def corrected() -> CorrectedLabels:
    return CorrectedLabels(GIVEN, TRUSTED, POSTERIOR, POSTERIOR, USABLE, 1.0, 0.8)


def rows_of(file) -> list[tuple[str, ...]]:
    with file.open(newline="") as opened:
        return [tuple(row) for row in csv.reader(opened)][1:]


@pytest.mark.usefixtures("without_shape_checks")
def test_each_image_has_its_row(dataset, corrected, tmp_path):
    """Trusted, kept, unsure, changed and skipped images, each as it should be written."""
    fitted = SimpleNamespace(corrected=corrected, validation=np.array([0]))
    write_labels(tmp_path, dataset, fitted, Split(np.array([0]), np.array([3])))
    assert rows_of(tmp_path / "labels.csv") == [
        ("a.png", "no", "yes", "yes", "1.0", "0.0", "trusted", "validation", ""),
        ("b.png", "yes", "", "yes", "0.95", "0.95", "kept", "", ""),
        ("c.png", "", "", "yes", "0.6", "0.0", "unsure", "no noisy label", ""),
        ("d.png", "yes", "", "no", "0.9", "0.1", "changed", "holdout", ""),
        ("e,\n.png", "no", "", "", "0.0", "0.0", "skipped", "truncated", ""),
    ]


@pytest.mark.usefixtures("without_shape_checks")
def test_predictions_of_the_holdout_are_listed(dataset, tmp_path):
    """The prediction for each held-out image beside its trusted label, and which are left out, and why."""
    known = replace(dataset, trusted=np.array([1, UNKNOWN, 0, 0, 1]))
    rows = np.array([0, 2, 3, 4])
    probs = POSTERIOR[rows].astype(np.float32)
    probs[1] = 0.49996, 0.50004  # as good as even, and not rounded before it is compared
    write_holdout(tmp_path, known, SimpleNamespace(probs_of=lambda _: probs), rows, np.array([2]))
    assert rows_of(tmp_path / "holdout.csv") == [
        ("a.png", "yes", "yes", "0.8", ""),
        ("c.png", "no", "yes", "0.5", "near_duplicate"),
        ("d.png", "no", "no", "0.9", ""),
        ("e,\n.png", "yes", "", "0.0", "truncated"),
    ]
    write_holdout(tmp_path, known, SimpleNamespace(probs_of=lambda _: probs[:0]), rows[:0], rows[:0])
    assert rows_of(tmp_path / "holdout.csv") == []


def test_skipped_images_and_warnings_are_listed_in_input_order(dataset, tmp_path):
    """image_issues.csv has file, severity, reason and detail, a row for each issue."""
    warnings = {2: ("animated", "low_information"), 0: ("truncated",)}
    write_issues(tmp_path, replace(dataset, image_warnings=warnings))
    *found, last = rows_of(tmp_path / "image_issues.csv")
    assert [row[:3] for row in found] == [
        ("a.png", "warning", "truncated"),
        ("c.png", "warning", "animated"),
        ("c.png", "warning", "low_information"),
    ]
    assert last == ("e,\n.png", "skipped", "truncated", "no end")


def test_the_figures_of_the_labels_are_counted_on_trusted_images():
    """Accuracy, the share of sure ones and false alarms equal what a loop counts."""
    generator = np.random.default_rng(0)
    n = 300
    trusted = np.where(generator.random(n) < 0.5, generator.integers(0, 3, n), UNKNOWN)
    noisy = np.where(generator.random(n) < 0.9, generator.integers(0, 3, n), UNKNOWN)
    posterior = generator.dirichlet([0.3, 0.3, 0.3], n)
    usable = generator.random(n) < 0.95
    corrected = CorrectedLabels(noisy, trusted, posterior, posterior, usable, 0.7, 0.8)
    right = sure = sure_right = right_noisy = alarms = known = 0
    for i in range(n):
        if trusted[i] == UNKNOWN or not usable[i]:
            continue
        best = posterior[i].argmax()
        confident = posterior[i].max() >= 0.8
        known += 1
        right += int(best == trusted[i])
        sure += int(confident)
        sure_right += int(confident and best == trusted[i])
        right_noisy += int(noisy[i] == trusted[i])
        alarms += int(noisy[i] == trusted[i] and confident and best != noisy[i])
    rows = [i for i in corrected.sample if noisy[i] != UNKNOWN]
    pairs = trusted[rows], noisy[rows], posterior[rows].argmax(axis=1)
    assert corrected_figures(corrected) == {
        "counts": dict(corrected.counts),
        "threshold": 0.8,
        "strength": 0.7,
        "accuracy": wilson(right, known).to_json(),
        "accuracy_where_sure": wilson(sure_right, sure).to_json(),
        "share_sure": pytest.approx(sure / known),
        "false_alarm_rate": wilson(alarms, right_noisy).to_json(),
        "against_noisy": mcnemar(*pairs).to_json(),
    }


def test_figures_of_nothing_are_none():
    """Without a trusted image there is no figure, and nothing is divided by zero."""
    none = np.full(2, UNKNOWN)
    probs = np.full((2, 2), 0.5)
    found = corrected_figures(CorrectedLabels(none, none, probs, probs, np.ones(2, dtype=bool), 1.0, 0.8))
    assert (found["accuracy"], found["accuracy_where_sure"], found["false_alarm_rate"]) == (None, None, None)
    assert found["share_sure"] == 0.0
    assert found["against_noisy"] is None
