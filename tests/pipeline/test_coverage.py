"""What prediction sets hold is counted on the sealed holdout."""

import json

import numpy as np
import pytest

from assay.pipeline.coverage import coverage_lines, coverages
from assay.pipeline.outputs import read_facts
from assay.predict.batch import predict_dataset
from assay.predict.runtime import load_runtime


def test_sets_are_counted_by_threshold():
    """Of four images: how many sets hold the right label, and how many labels a set has."""
    probs = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]])
    truth = np.array([0, 1, 1, 2])
    found = coverages(probs, truth, {"0.5": 0.55, "0.9": 0.25})
    assert [(one.asked, one.n, one.held, one.labels) for one in found] == [(0.5, 4, 1, 1.0), (0.9, 4, 4, 2.0)]
    facts = found[1].to_json()
    assert (facts["asked"], facts["estimate"], facts["labels"]) == (0.9, 1.0, 2.0)
    assert facts["low"] == pytest.approx(0.5101, abs=1e-4)


def test_a_card_tells_of_three_shares():
    """Those that people ask for; nothing where nothing was held out."""
    probs, truth = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])
    lines = coverage_lines(coverages(probs, truth, {"0.8": 0.5, "0.95": 0.15, "0.99": 0.05}))
    assert lines[-2:] == [
        "| 95 % | 100.0 % (34.2 to 100.0), n = 2 | 1.50 |",
        "| 99 % | 100.0 % (34.2 to 100.0), n = 2 | 2.00 |",
    ]
    assert coverage_lines(()) == []


def test_a_run_counts_its_sets_on_the_holdout(finished, small_data):
    """What evaluation.json says is what the saved model's sets hold of the images that were sealed."""
    runtime, dataset = load_runtime(finished.out), finished.result.dataset
    labels = (finished.out / "labels.csv").read_text().splitlines()[1:]
    held = np.array([row for row, line in enumerate(labels) if line.endswith(",holdout")])
    predicted = predict_dataset(runtime, dataset)
    told = {one["asked"]: one for one in read_facts(finished.out)["coverage"]}
    assert {0.5, 0.9, 0.95} <= {*told}
    for asked, one in told.items():
        sets = predicted.sets(runtime.thresholds[f"{asked:g}"])
        right = [runtime.labels[small_data.truth[row]] in sets[row] for row in held]
        assert one["estimate"] == pytest.approx(np.mean(right))
        assert one["labels"] == pytest.approx(np.mean([len(sets[row]) for row in held]))
    assert json.loads((finished.out / "evaluation.json").read_text())["coverage"] == [*told.values()]
    assert "| 95 % | " in (finished.out / "model" / "README.md").read_text()
