import numpy as np
import pytest

from assay.evaluate import evaluate_predictions
from assay.report.charts import accuracy_chart, coverage_chart, reliability_chart
from assay.report.page import level


def share(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high, "level": 0.95}


def curve(title="assay", n=200, seed=0):
    """A curve of probabilities that promise too much."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.4, 0.4, 0.4], size=n)
    truth = np.where(rng.random(n) < 0.8, probs.argmax(axis=1), rng.integers(3, size=n))
    found = evaluate_predictions(truth, probs, ("a", "b", "c"), source="holdout").to_json()
    return {"title": title, **found}


def test_every_accuracy_is_drawn_and_described(seen):
    """A name and a number a row, and the same with its interval in words."""
    rows = [
        {"title": "noisy labels", "accuracy": share(0.4, 0.38, 0.42)},
        {"title": "<assay> & co", "accuracy": share(1.0, 0.96, 1.0)},
    ]
    drawn, words = accuracy_chart(rows)
    assert words.endswith("noisy labels 40.0 % (38.0 to 42.0); <assay> & co 100.0 % (96.0 to 100.0).")
    assert {"noisy labels", "40.0 %", "<assay> & co", "100.0 %"} <= {*seen(drawn).texts}


def test_each_bin_of_the_calibration_is_described(seen):
    """Mean confidence, share right with its interval, and images, of each bin."""
    found = curve()
    drawn, words = reliability_chart(found)
    assert seen(drawn).title == "Calibration of assay"
    assert words.count(" images") == len(found["reliability"])


def test_errors_of_both_curves_share_one_scale(seen):
    """Both lines are named; a curve without an error can be drawn."""
    curves = [curve("assay", seed=0), curve("corrected labels", seed=1)]
    assert {"assay", "corrected labels"} <= {*seen(coverage_chart(curves)[0]).texts}
    probs = np.tile([0.9, 0.1], (5, 1))
    found = evaluate_predictions(np.zeros(5, dtype=int), probs, ("a", "b"), source="holdout").to_json()
    assert "0.0 % wrong of the first 100 %" in coverage_chart([{"title": "assay", **found}])[1]


@pytest.mark.parametrize(
    ("value", "name"), [(0.0, "h0"), (0.004, "h0"), (0.006, "h1"), (0.5, "h5"), (0.96, "h10"), (1.0, "h10")]
)
def test_a_cell_has_a_colour_by_its_share(value, name):
    """Ten steps, and what is not nothing never looks like nothing."""
    assert level(value) == name
