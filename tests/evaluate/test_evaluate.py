import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import DataError, LabelError
from assay.evaluate.metrics import (
    Evaluation,
    brier,
    classification_report,
    covered,
    evaluate_predictions,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from assay.evaluate.paired import mcnemar
from assay.noise.intervals import wilson
from assay.types import UNKNOWN

NAMES = ("cat", "dog", "frog")


@st.composite
def rows(draw):
    """True labels, some UNKNOWN and at least one known, and probabilities over three classes."""
    seed = draw(st.integers(0, 2**32 - 1))
    truth = np.array([0, *draw(st.lists(st.integers(UNKNOWN, 2), max_size=30))])
    return truth, np.random.default_rng(seed).dirichlet([1, 1, 1], size=len(truth))


@given(rows())
def test_every_figure_is_from_the_images_whose_class_is_known(case):
    """Rows of unknown truth are counted and change nothing else."""
    truth, probs = case
    known = truth != UNKNOWN
    evaluation = evaluate_predictions(truth, probs, NAMES, source="holdout")
    assert (evaluation.n, evaluation.unlabelled) == (known.sum(), (~known).sum())
    truth, probs = truth[known], probs[known]
    predicted = probs.argmax(axis=1)
    assert evaluation.report.to_json() == classification_report(truth, predicted, NAMES).to_json()
    assert evaluation.accuracy == wilson(int(np.sum(predicted == truth)), len(truth))
    assert evaluation.calibration_error == expected_calibration_error(probs, truth)
    assert evaluation.negative_log_likelihood == negative_log_likelihood(probs, truth)
    assert evaluation.brier == brier(probs, truth)


@given(rows(), st.integers(0, 2**32 - 1))
def test_the_baseline_is_asked_about_the_same_images(case, seed):
    """The pair is the baseline first and the classifier second, on the images of known class."""
    truth, probs = case
    baseline = np.random.default_rng(seed).integers(UNKNOWN, 3, size=len(truth))
    known = truth != UNKNOWN
    evaluation = evaluate_predictions(truth, probs, NAMES, source="holdout", baseline_predicted=baseline)
    assert evaluation.paired == mcnemar(truth[known], baseline[known], probs.argmax(axis=1)[known])
    assert evaluation.paired.n == evaluation.n


@given(rows())
def test_the_json_is_plain_and_can_be_read_back(case):
    """What is written is numbers, strings, lists and dicts, and no NaN or infinity."""
    evaluation = evaluate_predictions(
        *case, NAMES, source="holdout", baseline_predicted=np.maximum(case[0], 0)
    )
    written = json.dumps(evaluation.to_json(), allow_nan=False)
    assert json.loads(written) == evaluation.to_json()


def test_the_whole_json():
    """Two images of known class, one without, three skipped."""
    probs = np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    evaluation = evaluate_predictions(
        np.array([0, 1, UNKNOWN]), probs, NAMES[:2], source="test set", skipped=3
    )
    assert evaluation.to_json() == {
        "source": "test set",
        "n": 2,
        "accuracy": wilson(1, 2).to_json(),
        "report": classification_report(np.array([0, 1]), np.array([0, 0]), NAMES[:2]).to_json(),
        "calibration_error": pytest.approx((0.2 + 0.6) / 2),
        "negative_log_likelihood": pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2),
        "brier": pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2),
        "paired": None,
        "unlabelled": 1,
        "skipped": 3,
        "reliability": [found.to_json() for found in reliability(probs[:2], np.array([0, 1]))],
        "risk_coverage": [found.to_json() for found in covered(probs[:2], np.array([0, 1]))],
    }


def test_probabilities_of_unlabelled_rows_are_not_read():
    """A row of unknown class may hold anything."""
    probs = np.array([[0.8, 0.2], [np.nan, np.nan]])
    assert evaluate_predictions(np.array([0, UNKNOWN]), probs, NAMES[:2], source="holdout").n == 1


@pytest.mark.parametrize("truth", [[], [UNKNOWN, UNKNOWN]])
def test_nothing_to_measure_is_refused(truth):
    """Without an image of known class there is no figure, and the message says what is missing."""
    message = (
        rf"^expected images whose true class is known, got none among {len(truth)} \(4 more were skipped\): "
        r"nothing was measured; give trusted labels for some of them$"
    )
    probs = np.full((len(truth), 3), 1 / 3)
    with pytest.raises(DataError, match=message):
        evaluate_predictions(np.array(truth, dtype=int), probs, NAMES, source="holdout", skipped=4)


@pytest.mark.parametrize("row", [[np.nan, 0.5], [0.5, 0.6], [-0.5, 1.5], [np.inf, -np.inf]])
def test_a_row_that_is_no_set_of_probabilities_is_refused(row):
    """NaN, negative numbers and rows that do not sum to 1 are named by their row."""
    probs = np.array([[0.5, 0.5], row])
    with pytest.raises(DataError, match=r"^probs row 1: expected probabilities that sum to 1, got \["):
        evaluate_predictions(np.array([0, 1]), probs, NAMES[:2], source="holdout")


def test_a_true_label_that_is_no_class_is_refused():
    """A label beyond the classes is named with its row."""
    with pytest.raises(LabelError, match=r"^truth row 1: expected a class from 0 to 1, got 2;"):
        evaluate_predictions(np.array([0, 2]), np.full((2, 2), 0.5), NAMES[:2], source="holdout")


@pytest.mark.usefixtures("without_shape_checks")
def test_arrays_that_do_not_fit_are_refused():
    """Probabilities of another shape, or a baseline of another length, are named with both sizes."""
    truth, probs = np.array([0, 1]), np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match=r"^expected probs of shape \(2, 3\), .* got \(2, 2\)$"):
        evaluate_predictions(truth, probs, NAMES, source="holdout")
    with pytest.raises(ValueError, match=r"^expected baseline_predicted for 2 images, got 3 labels$"):
        evaluate_predictions(
            truth, probs, NAMES[:2], source="holdout", baseline_predicted=np.array([0, 1, 1])
        )


def test_figures_are_read_back_as_they_were_written():
    """Curves too."""
    written = evaluate_predictions(
        np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]]), NAMES[:2], source="holdout"
    ).to_json()
    assert Evaluation.from_json(written).to_json() == written
