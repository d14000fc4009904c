import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from assay.errors import LabelError
from assay.evaluate.metrics import classification_report, confusion_matrix, format_report

NAMES = ("cat", "dog", "a very long-named frog", "ship")


@st.composite
def answers(draw):
    """True and predicted labels of up to 40 images, over one to four classes that need not all occur."""
    k = draw(st.integers(1, len(NAMES)))
    labels = st.integers(0, k - 1)
    rows = draw(st.lists(st.tuples(labels, labels), min_size=1, max_size=40))
    truth, predicted = np.array(rows).T
    return truth, predicted, NAMES[:k]


@given(answers())
def test_scikit_learn_finds_the_same_numbers(case):
    """Every share and count is that of scikit-learn's report with zero_division=0."""
    truth, predicted, names = case
    expected = metrics.classification_report(
        truth, predicted, labels=range(len(names)), target_names=names, output_dict=True, zero_division=0
    )
    # Its averages over the classes that occur are those without ``labels``.
    short = metrics.classification_report(truth, predicted, output_dict=True, zero_division=0)
    expected["macro avg"] = short["macro avg"]
    report = classification_report(truth, predicted, names)
    for scores in (*report.classes, report.macro, report.weighted):
        wanted = expected[scores.name]
        assert scores.precision == pytest.approx(wanted["precision"])
        assert scores.recall == pytest.approx(wanted["recall"])
        assert scores.f1 == pytest.approx(wanted["f1-score"])
        assert scores.support == wanted["support"]
    assert report.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_prints_the_same_text(seed):
    """The text is that of scikit-learn's report, to the last space."""
    truth, predicted = np.random.default_rng(seed).integers(len(NAMES), size=(2, 211))
    expected = metrics.classification_report(truth, predicted, target_names=NAMES)
    assert format_report(classification_report(truth, predicted, NAMES)) == expected


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


@given(answers(), st.randoms())
def test_the_order_of_the_images_does_not_matter(case, random):
    """Shuffled rows give the same report."""
    truth, predicted, names = case
    rows = list(range(len(truth)))
    random.shuffle(rows)
    shuffled = classification_report(truth[rows], predicted[rows], names)
    assert shuffled.to_json() == classification_report(truth, predicted, names).to_json()


@given(answers())
def test_the_confusion_is_a_count_of_pairs(case):
    """The fast count is that of the loop that defines it: rows are true, columns predicted."""
    truth, predicted, names = case
    slow = np.zeros((len(names), len(names)), dtype=int)
    for true, said in zip(truth, predicted, strict=True):
        slow[true, said] += 1
    assert np.array_equal(confusion_matrix(truth, predicted, len(names)), slow)


@given(answers())
def test_weighted_recall_is_accuracy(case):
    """Recall weighted by support is the share of images that were right."""
    report = classification_report(*case)
    assert report.weighted.recall == pytest.approx(report.accuracy)


def test_perfect_answers_score_one():
    """If all is right, every score of every class is 1."""
    truth = np.array([0, 1, 2, 3, 3])
    report = classification_report(truth, truth, NAMES)
    assert {(s.precision, s.recall, s.f1) for s in (*report.classes, report.macro)} == {(1.0, 1.0, 1.0)}
    assert report.accuracy == 1.0


def test_a_class_that_is_never_seen_nor_predicted_scores_zero():
    """Nothing to divide by gives 0, without a warning."""
    report = classification_report(np.array([0, 0]), np.array([0, 0]), ("cat", "dog"))
    assert report.classes[1].to_json() == {
        "name": "dog",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
    }
    assert report.macro.f1 == 1.0  # nothing is of it or was called it
    assert classification_report(np.array([0, 0]), np.array([0, 1]), ("cat", "dog")).macro.recall == 0.25


def test_no_image_scores_zero():
    """A report over no image is all zeros."""
    nothing = np.zeros(0, dtype=int)
    report = classification_report(nothing, nothing, ("cat", "dog"))
    assert (report.accuracy, report.macro.f1, report.weighted.f1, report.weighted.support) == (0, 0, 0, 0)


def test_the_whole_text():
    """A terminal shows a right-aligned table with a line for each class and three averages."""
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 1, 0])
    text = format_report(classification_report(truth, predicted, ("cat", "dog", "frog")))
    assert text == (
        "              precision    recall  f1-score   support\n"
        "\n"
        "         cat       0.67      0.67      0.67         3\n"
        "         dog       0.67      1.00      0.80         2\n"
        "        frog       0.00      0.00      0.00         1\n"
        "\n"
        "    accuracy                           0.67         6\n"
        "   macro avg       0.44      0.56      0.49         6\n"
        "weighted avg       0.56      0.67      0.60         6\n"
    )


def test_the_plain_dict():
    """The report is written as dicts and lists with the confusion row by row."""
    report = classification_report(np.array([0, 1]), np.array([0, 0]), ("cat", "dog"))
    assert report.to_json() == {
        "classes": [
            {"name": "cat", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
            {"name": "dog", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        ],
        "accuracy": 0.5,
        "macro": {
            "name": "macro avg",
            "precision": 0.25,
            "recall": 0.5,
            "f1": pytest.approx(1 / 3),
            "support": 2,
        },
        "weighted": {
            "name": "weighted avg",
            "precision": 0.25,
            "recall": 0.5,
            "f1": pytest.approx(1 / 3),
            "support": 2,
        },
        "confusion": [[1, 0], [1, 0]],
    }


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
def test_a_prediction_for_each_image_is_asked_for():
    """Arrays of different length are refused with both lengths."""
    with pytest.raises(ValueError, match=r"^expected a prediction for each of 3 true labels, got 2$"):
        classification_report(np.array([0, 1, 1]), np.array([0, 1]), ("cat", "dog"))
