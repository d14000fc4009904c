import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from assay.errors import DataError, LabelError
from assay.evaluate import (
    balanced_accuracy,
    classification_report,
    evaluate_predictions,
    format_report,
    mcnemar,
    wilson,
)
from assay.evaluate.metrics import (
    Evaluation,
    brier,
    negative_log_likelihood,
    reliability,
    risk_coverage,
)
from assay.types import UNKNOWN

NAMES = ("cat", "dog", "a very long-named frog", "ship")
seeds, sizes, classes = st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 6)


def draw(seed, n, k=3):
    """Probabilities with some spread, and true labels, of ``n`` images over ``k`` classes."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), size=n), rng.integers(k, size=n)


@st.composite
def answers(draw):
    """True and predicted labels of up to 40 images, over one to four classes that need not all occur."""
    k = draw(st.integers(1, len(NAMES)))
    labels = st.integers(0, k - 1)
    rows = draw(st.lists(st.tuples(labels, labels), min_size=1, max_size=40))
    truth, predicted = np.array(rows).T
    return truth, predicted, NAMES[:k]


@settings(max_examples=30)
@given(seeds, sizes)
def test_every_figure_is_from_the_images_whose_class_is_known(seed, n):
    """Rows of unknown truth are counted and change nothing else; the baseline is the first of the pair."""
    probs, truth = draw(seed, n)
    rng = np.random.default_rng(seed + 1)
    truth[1:][rng.random(n - 1) < 0.3] = UNKNOWN
    baseline, known = rng.integers(UNKNOWN, 3, size=n), truth != UNKNOWN
    probs[~known] = np.nan
    found = evaluate_predictions(truth, probs, NAMES[:3], source="holdout", baseline_predicted=baseline)
    assert (found.n, found.unlabelled) == (known.sum(), (~known).sum())
    truth, probs, baseline = truth[known], probs[known], baseline[known]
    predicted = probs.argmax(axis=1)
    assert found.report.to_json() == classification_report(truth, predicted, NAMES[:3]).to_json()
    assert found.accuracy == wilson(int(np.sum(predicted == truth)), len(truth))
    assert (found.calibration_error, found.reliability) == reliability(probs, truth)
    assert found.negative_log_likelihood == negative_log_likelihood(probs, truth)
    assert found.brier == brier(probs, truth)
    assert found.paired == mcnemar(truth, baseline, predicted)
    assert found.risk_coverage == risk_coverage(probs, truth)


@pytest.mark.parametrize("baseline", [None, np.array([0, 1, 1])])
def test_the_whole_json_is_plain_and_read_back(baseline):
    """Two images of known class, one without, three skipped."""
    probs, truth = np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]), np.array([0, 1, UNKNOWN])
    found = evaluate_predictions(
        truth, probs, NAMES[:2], source="test set", skipped=3, baseline_predicted=baseline
    )
    written = found.to_json()
    half = {"name": "macro avg", "precision": 0.25, "recall": 0.5, "f1": pytest.approx(1 / 3), "support": 2}
    assert written == {
        "source": "test set",
        "n": 2,
        "accuracy": wilson(1, 2).to_json(),
        "balanced_accuracy": found.balanced_accuracy.to_json(),
        "report": {
            "classes": [
                {"name": "cat", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
                {"name": "dog", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
            ],
            "accuracy": 0.5,
            "macro": half,
            "weighted": half | {"name": "weighted avg"},
            "confusion": [[1, 0], [1, 0]],
        },
        "calibration_error": pytest.approx((0.2 + 0.6) / 2),
        "negative_log_likelihood": pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2),
        "brier": pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2),
        "paired": None if baseline is None else found.paired.to_json(),
        "unlabelled": 1,
        "skipped": 3,
        "reliability": [vars(one) | {"right": one.right.to_json()} for one in found.reliability],
        "risk_coverage": [vars(one) for one in found.risk_coverage],
    }
    assert Evaluation.from_json(json.loads(json.dumps(written, allow_nan=False))).to_json() == written
    assert repr(found) == "Evaluation(1 of 2 (9.5 to 90.5 %) right, n = 2, test set)"


@settings(max_examples=30)
@given(answers())
def test_the_balanced_accuracy_is_scikit_learns(rows):
    """Mean recall over the classes that occur, within its interval."""
    truth, predicted, names = rows
    found = balanced_accuracy(classification_report(truth, predicted, names).confusion)
    recalls = metrics.recall_score(truth, predicted, labels=np.unique(truth), average=None, zero_division=0)
    assert found.estimate == pytest.approx(recalls.mean())
    assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize(
    ("of", "recall"), [((500, 90, 16, 7), (0.98, 0.9, 0.8, 0.6)), ((10, 10, 10), (0.95, 0.95, 0.95))]
)
def test_the_interval_of_the_balanced_accuracy_holds(of, recall):
    """In 1,000 draws it holds the true mean recall about 95 times of 100; a class has seven images."""
    rng, holds = np.random.default_rng(0), 0
    for hits in rng.binomial(of, recall, size=(1000, len(of))):
        confusion = np.diag(hits)
        confusion[:, 0] += np.array(of) - hits
        confusion[0, :2] = hits[0], of[0] - hits[0]
        found = balanced_accuracy(confusion)
        holds += found.low <= np.mean(recall) <= found.high
    assert 920 <= holds <= 980


def test_small_classes_are_named():
    """Of fewer than ten images a recall is hardly known; ten are enough."""
    truth = np.repeat([0, 1, 2], [10, 9, 1])
    found = evaluate_predictions(truth, np.eye(4)[truth], NAMES, source="holdout")
    assert found.too_small == (
        "'dog', 'a very long-named frog' and 'ship' are too small to measure: each has fewer than 10 of the "
        "20 images (holdout)"
    )
    found = evaluate_predictions(truth[:19], np.eye(2)[truth[:19]], NAMES[:2], source="test set")
    assert found.too_small == (
        "'dog' is too small to measure: it has fewer than 10 of the 19 images (test set)"
    )
    assert not evaluate_predictions(truth[:10], np.eye(1)[truth[:10]], NAMES[:1], source="holdout").too_small


@pytest.mark.parametrize("truth", [[], [UNKNOWN, UNKNOWN]])
def test_nothing_to_measure_is_refused(truth):
    """Without an image of known class there is no figure, and the message has what is missing."""
    message = (
        rf"^expected images whose true class is known, got none among {len(truth)} \(4 more were skipped\): "
        r"nothing was measured; give trusted labels for some of them$"
    )
    probs = np.full((len(truth), 3), 1 / 3)
    with pytest.raises(DataError, match=message):
        evaluate_predictions(np.array(truth, dtype=int), probs, NAMES[:3], source="holdout", skipped=4)


@pytest.mark.parametrize("row", [[np.nan, 0.5], [0.5, 0.6], [-0.5, 1.5], [np.inf, -np.inf]])
def test_a_row_that_is_no_set_of_probabilities_is_refused(row):
    """NaN, negative numbers and rows that do not sum to 1 are named by their row."""
    probs = np.array([[0.5, 0.5], row])
    with pytest.raises(DataError, match=r"^probs row 1: expected probabilities that sum to 1, got \["):
        evaluate_predictions(np.array([0, 1]), probs, NAMES[:2], source="holdout")


@pytest.mark.usefixtures("without_shape_checks")
def test_arrays_that_do_not_fit_are_refused():
    """Probabilities of another shape, or a baseline of another length, are named with both sizes."""
    truth, probs = np.array([0, 1]), np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match=r"^expected probs of shape \(2, 3\), .* got \(2, 2\)$"):
        evaluate_predictions(truth, probs, NAMES[:3], source="holdout")
    with pytest.raises(ValueError, match=r"^expected baseline_predicted for 2 images, got 3 labels$"):
        evaluate_predictions(
            truth, probs, NAMES[:2], source="holdout", baseline_predicted=np.array([0, 1, 1])
        )


@settings(max_examples=30)
@given(answers())
def test_scikit_learn_finds_the_same_numbers(case):
    """Shares of each class are its with zero_division=0; averages are those over the classes that occur."""
    truth, predicted, names = case
    report = classification_report(truth, predicted, names)
    wanted = metrics.classification_report(truth, predicted, output_dict=True, zero_division=0)
    for label, scores in [*enumerate(report.classes), ("macro avg", report.macro)]:
        own = wanted.get(str(label), {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert [scores.precision, scores.recall, scores.f1, scores.support] == pytest.approx([*own.values()])
    assert report.weighted.recall == pytest.approx(report.accuracy)
    assert report.accuracy == np.mean(truth == predicted)
    slow = np.zeros((len(names), len(names)), int)
    for true, said in zip(truth, predicted, strict=True):
        slow[true, said] += 1
    assert np.array_equal(report.confusion, slow)


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_prints_the_same_text(seed):
    """The text is that of scikit-learn's report, to the last space."""
    truth, predicted = np.random.default_rng(seed).integers(len(NAMES), size=(2, 211))
    expected = metrics.classification_report(truth, predicted, target_names=NAMES)
    assert format_report(classification_report(truth, predicted, NAMES)) == expected


@settings(max_examples=30)
@given(answers(), st.randoms())
def test_permuting_classes_permutes_the_report(case, random):
    """Another order of the classes gives the same scores in that order, and the same averages."""
    truth, predicted, names = case
    order = list(range(len(names)))
    random.shuffle(order)
    place = np.argsort(order)
    before = classification_report(truth, predicted, names)
    after = classification_report(place[truth], place[predicted], [names[i] for i in order])
    assert after.classes == tuple(before.classes[i] for i in order)
    assert np.array_equal(after.confusion, before.confusion[np.ix_(order, order)])
    assert after.accuracy == before.accuracy
    for one, other in ((after.macro, before.macro), (after.weighted, before.weighted)):
        assert one.precision == pytest.approx(other.precision)
        assert one.f1 == pytest.approx(other.f1)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (
            [0, -1],
            [0, 0],
            r"^truth row 1: expected a class from 0 to 1, got -1; leave out images whose class is not known$",
        ),
        ([0, 1], [2, 0], r"^predicted row 0: expected a class from 0 to 1, got 2;"),
    ],
)
def test_a_label_that_is_no_class_is_refused(truth, predicted, message):
    """The message names the array, the row, the range and what came."""
    with pytest.raises(LabelError, match=message):
        classification_report(np.array(truth), np.array(predicted), ("cat", "dog"))


@pytest.mark.usefixtures("without_shape_checks")
def test_a_prediction_for_each_image_is_needed():
    """Arrays of different length are refused with both lengths."""
    with pytest.raises(ValueError, match=r"^expected a prediction for each of 3 true labels, got 2$"):
        classification_report(np.array([0, 1, 1]), np.array([0, 1]), ("cat", "dog"))


@given(seeds, sizes, classes, st.integers(1, 20))
def test_calibration_error_and_bins_are_their_definitions(seed, n, k, bins):
    """They are what a loop over bins and images counts, and an empty bin is left out."""
    probs, truth = draw(seed, n, k)
    error, found = reliability(probs, truth, bins)
    found, slow_error = {round(one.low * bins): one for one in found}, 0.0
    for b in range(bins):
        inside = [i for i in range(n) if b / bins < max(probs[i]) <= (b + 1) / bins]
        assert (b in found) == bool(inside)
        if inside:
            hits = sum(int(np.argmax(probs[i]) == truth[i]) for i in inside)
            mean = sum(max(probs[i]) for i in inside) / len(inside)
            slow_error += len(inside) / n * abs(mean - hits / len(inside))
            assert (found[b].n, found[b].right) == (len(inside), wilson(hits, len(inside)))
            assert found[b].confidence == pytest.approx(mean)
    assert error == pytest.approx(slow_error, abs=1e-12)


def test_a_sure_mistake_is_expensive_but_finite():
    """A true class of probability 0 counts as 1e-12."""
    probs = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert negative_log_likelihood(probs, np.array([1, 0])) == pytest.approx(-math.log(1e-12) / 2)


@given(seeds, sizes, classes)
def test_likelihood_and_brier_score_are_their_definitions(seed, n, k):
    """The first is scikit-learn's log loss; float32 is enough; no score knows the order of the classes."""
    probs, truth = draw(seed, n, k)
    probs = (probs + 0.01) / (probs + 0.01).sum(axis=1, keepdims=True)
    assert negative_log_likelihood(probs, truth) == pytest.approx(
        metrics.log_loss(truth, probs, labels=range(k))
    )
    assert brier(probs, truth) == pytest.approx(np.mean(np.sum((probs - np.eye(k)[truth]) ** 2, axis=1)))
    order = np.random.default_rng(seed).permutation(k)
    for score in (lambda p, y: reliability(p, y)[0], negative_log_likelihood, brier):
        assert score(probs[:, order], np.argsort(order)[truth]) == pytest.approx(score(probs, truth))
    for score in (negative_log_likelihood, brier):
        assert score(probs.astype(np.float32), truth) == pytest.approx(score(probs, truth), abs=1e-4)


@given(seeds, sizes, st.integers(1, 30))
def test_the_points_lie_on_the_curve(seed, n, steps):
    """Each point is the share of mistakes among so many images; the last one is for all."""
    probs, truth = draw(seed, n)
    found, whole = risk_coverage(probs, truth, steps), risk_coverage(probs, truth, n)
    assert [one.n for one in whole] == list(range(1, n + 1))
    assert len(found) <= steps
    assert list(found) == [whole[one.n - 1] for one in found]
    assert found[-1].n == n
    assert found[-1].risk == pytest.approx(np.mean(probs.argmax(axis=1) != truth))
    for one in whole:
        assert -1e-12 < one.risk < 1 + 1e-12
        assert one.coverage == one.n / n
        assert np.sum(probs.max(axis=1) >= one.confidence) >= one.n


def test_the_risk_of_the_most_confident_comes_first():
    """The surest image is right, the next wrong, the last two right."""
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    found = risk_coverage(probs, np.array([0, 0, 0, 1]))
    assert [one.risk for one in found] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])


@given(seeds, st.permutations(range(6)))
def test_the_order_of_equally_confident_images_does_not_matter(seed, order):
    """Images of one confidence share their mistakes, whatever row they are in."""
    truth = np.random.default_rng(seed).integers(2, size=6)
    probs = np.array([[0.7, 0.3]] * 4 + [[0.9, 0.1]] * 2)
    assert risk_coverage(probs[order], truth[order]) == risk_coverage(probs, truth)
