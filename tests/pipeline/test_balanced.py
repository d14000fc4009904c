"""--balanced: the saved model predicts as if all classes were equally frequent, and nothing else changes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import CLASSES, quick_learning, read_record, read_rows

from assay.correct.posterior import Calibration
from assay.correct.result import CorrectedLabels
from assay.data.simulate import symmetric
from assay.pipeline.finetune_split import FineTuneSplit
from assay.pipeline.learn import Fitted, TrainingLabels
from assay.pipeline.measure import BALANCED
from assay.pipeline.run import run
from assay.predict.layers import Layers
from assay.predict.model import read_model
from assay.predict.predictor import load_model
from assay.types import UNKNOWN


@pytest.fixture(scope="module")
def balanced(finished, small_data, tmp_path_factory):
    """The shared run with --balanced."""
    with quick_learning():
        options = replace(finished.options, balanced=True)
        return run(small_data.images, tmp_path_factory.mktemp("balanced") / "out", options)


def facts_of(folder):
    return json.loads((folder / "model" / "config.json").read_text())["assay"]


def test_labels_and_noise_are_those_of_any_run(finished, balanced):
    """Corrected labels keep the true prior: the same bytes."""
    for name in ("labels.csv", "noise.json"):
        assert (balanced.path / name).read_bytes() == (finished.out / name).read_bytes()
    before = finished.result.evaluation["labels_cross_validated"].to_json()
    assert balanced.evaluation["labels_cross_validated"].to_json() == before


def test_the_head_is_adjusted_by_the_prior_that_the_model_keeps(finished, balanced):
    """The bias of the last layer is less by log P(class), up to a constant; its prior is uniform then."""
    prior = np.array(facts_of(finished.out)["class_prior"])
    assert prior.sum() == pytest.approx(1)
    assert facts_of(balanced.path)["class_prior"] == pytest.approx([1 / 3] * 3)
    *before, bias = read_model(finished.out).head.weights
    *after, adjusted = read_model(balanced.path).head.weights
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    moved = adjusted - bias + np.log(prior)
    assert moved == pytest.approx(np.full(3, moved.mean()), abs=1e-5)


def test_the_prior_is_that_of_the_corrected_training_labels(finished):
    """Counted on all images outside the holdout, trusted labels as they are, one more of each class."""
    rows = [row for row in read_rows(finished.out) if row["reason"] != "holdout"]
    counts = np.array([sum(row["corrected_label"] == name for row in rows) + 1 for name in CLASSES])
    assert facts_of(finished.out)["class_prior"] == pytest.approx(counts / counts.sum(), abs=0.03)


def test_its_figures_are_those_of_the_model_that_was_saved(balanced, small_data):
    """The graph predicts the holdout as holdout.csv says, and agrees with the head."""
    assert facts_of(balanced.path)["parity"]["same_class"] == 1
    found = load_model(balanced.path).predict(small_data.images)
    predicted = dict(zip(found.names, found.predicted, strict=True))
    rows = read_rows(balanced.path, "holdout.csv")
    assert {row["file"]: row["predicted_label"] for row in rows} == {
        row["file"]: predicted[row["file"]] for row in rows
    }


def test_readers_are_told(finished, balanced):
    """Warnings, model card, config.json and run.json say so; without the option none of them changes."""
    assert BALANCED in balanced.warnings
    assert BALANCED not in finished.result.warnings
    card = (balanced.path / "model" / "README.md").read_text()
    assert f"{BALANCED[0].upper()}{BALANCED[1:]}." in card
    assert (facts_of(balanced.path)["balanced"], "balanced" in facts_of(finished.out)) == (True, False)
    settings = read_record(balanced.path)["settings"]
    assert (settings["balanced"], "balanced" in read_record(finished.out)["settings"]) == (True, False)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_fine_tuned_head_is_adjusted_too():
    """After fine-tuning: the same labels, and the head as that of any run but for the log prior."""
    finetune = pytest.importorskip("assay.pipeline.finetune", reason="needs the train extra")
    rng = np.random.default_rng(0)
    truth = rng.choice(3, size=200, p=[0.7, 0.2, 0.1])
    probs = rng.dirichlet(np.ones(3), size=200) / 2 + np.eye(3)[truth] / 2
    known, usable = np.where(np.arange(200) < 100, truth, UNKNOWN), np.ones(200, dtype=bool)
    data = TrainingLabels(None, truth, known, usable, np.arange(200) % 5, CLASSES, 0, 0.8)
    before = CorrectedLabels(truth, known, probs, probs, usable, 1.0, 0.8)
    noise = SimpleNamespace(transition=symmetric(3, 0.1))
    fitted = Fitted(None, noise, None, before, None, probs, lambda rows: probs[rows], probs)
    head = Layers(*np.ones((2, 4), np.float32), (np.ones((4, 3), np.float32), np.zeros(3, np.float32)))

    def predict(rows=slice(None), calibration=None):
        return probs[rows] if calibration is None else calibration.apply(probs[rows])

    model = SimpleNamespace(predict=predict, tuned=SimpleNamespace(head=head))
    split = FineTuneSplit(np.arange(50, 200), np.arange(50, 100), np.arange(50))
    plain, balanced = (
        finetune._concluded(replace(data, balanced=on), fitted, split, np.arange(100), model)
        for on in (False, True)
    )
    assert np.array_equal(plain.corrected.posterior, balanced.corrected.posterior)
    assert balanced.prior == pytest.approx(np.full(3, 1 / 3))
    assert plain.prior == pytest.approx(np.bincount(truth) / 200, abs=0.05)
    moved = balanced.head.weights[-1] - plain.head.weights[-1] + np.log(plain.prior)
    assert moved == pytest.approx(np.full(3, moved.mean()), abs=1e-5)
    rows = split.validation
    for found in (balanced.unseen, balanced.probs_of(np.arange(200))):
        assert (found[rows].argmax(axis=1) == 0).sum() < (plain.unseen[rows].argmax(axis=1) == 0).sum()


def test_the_prior_of_some_rows_is_their_mean_posterior():
    """Trusted labels count whole, and a class that no row is of keeps a share."""
    posterior = np.array([[0.8, 0.2, 0.0], [0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])
    trusted, usable = np.array([UNKNOWN, 0, UNKNOWN, 2]), np.ones(4, dtype=bool)
    found = CorrectedLabels(np.zeros(4, dtype=int), trusted, posterior, posterior, usable, 1.0, 0.8)
    assert found.prior(np.array([0, 1, 2])) == pytest.approx(np.array([2.9, 2.1, 1.0]) / 6)
    assert posterior[1].tolist() == [0.5, 0.5, 0.0]


def test_a_balanced_calibration_is_bayes_rule():
    """Its probabilities are those of the calibration, divided by the prior."""
    rng = np.random.default_rng(0)
    probs, prior = rng.dirichlet(np.ones(3), size=5), np.array([0.9, 0.07, 0.03])
    calibration = Calibration(1.7, np.array([0.3, -0.2, -0.1]))
    expected = calibration.apply(probs) / prior
    found = calibration.balanced(prior)
    assert found.apply(probs) == pytest.approx(expected / expected.sum(axis=1, keepdims=True))
    assert found.bias.sum() == pytest.approx(0)
