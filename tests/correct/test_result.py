from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from assay.correct.outliers import Outliers
from assay.correct.result import ACTIONS, CorrectedLabels
from assay.data.simulate import spoil, symmetric
from assay.types import UNKNOWN

NOISY = np.array([0, 0, 1, 0, 1, UNKNOWN])
TRUSTED = np.array([UNKNOWN, UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN])
POSTERIOR = np.array([[0.9, 0.1], [0.05, 0.95], [0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.15, 0.85]])
USABLE = np.array([True, True, True, True, False, True])


@pytest.fixture
def corrected():
    return CorrectedLabels(NOISY, TRUSTED, POSTERIOR, POSTERIOR, USABLE, strength=1.0, threshold=0.8)


def test_the_corrected_label_is_the_trusted_or_the_most_probable_one(corrected):
    """A trusted class is kept whatever its posterior, and a skipped image has none."""
    assert corrected.corrected.tolist() == [0, 1, 0, 1, UNKNOWN, 1]
    assert corrected.confidence.tolist() == [0.9, 0.95, 0.6, 1.0, 0.0, 0.85]


def test_the_noisy_label_has_a_quality(corrected):
    """P(the noisy label is right): 0 or 1 where the class is known, 0 without a label."""
    assert corrected.label_quality.tolist() == [0.9, 0.05, 0.4, 0.0, 0.0, 0.0]


def test_each_image_has_an_action(corrected):
    """Kept, changed, unsure, trusted or skipped; an image without a label is changed when it gets one."""
    assert corrected.actions.tolist() == ["kept", "changed", "unsure", "trusted", "skipped", "changed"]
    assert dict(corrected.counts) == {
        "kept": 1,
        "changed": 2,
        "unsure": 1,
        "trusted": 1,
        "outlier": 0,
        "skipped": 1,
    }
    assert tuple(corrected.counts) == ACTIONS


def test_another_threshold_is_another_result(corrected):
    """The evidence stays, the actions change, and the old result stays as it was."""
    strict = corrected.at(threshold=0.92)
    assert strict.actions.tolist() == ["unsure", "changed", "unsure", "trusted", "skipped", "unsure"]
    assert strict.corrected.tolist() == corrected.corrected.tolist()
    assert corrected.threshold == 0.8


def test_label_issues_are_labels_that_nobody_has_checked(corrected):
    """Trusted and skipped images are left out; the least probable label is first."""
    assert corrected.label_issues.tolist() == [1, 2, 0]


@pytest.mark.usefixtures("without_shape_checks")
def test_evidence_of_different_length_is_refused():
    """Each array has a row for each image."""
    message = r"got \{'noisy': 6, 'trusted': 6, 'pred_probs': 6, 'posterior': 5, 'usable': 6\}"
    with pytest.raises(ValueError, match=message):
        CorrectedLabels(NOISY, TRUSTED, POSTERIOR, POSTERIOR[:5], USABLE, strength=1.0)


@pytest.fixture(scope="module")
def digits():
    """Features, true classes, and trusted labels for a fifth of the rows."""
    X, truth = (part[:1300] for part in load_digits(return_X_y=True))
    truth, chosen = truth.astype(np.int64), np.random.default_rng(0).random(len(X)) < 0.2
    return PCA(20, random_state=0).fit_transform(X), truth, np.where(chosen, truth, UNKNOWN)


def false_alarm_rate(corrected):
    """Share of right noisy labels that would be changed, by the out-of-fold posterior of trusted rows."""
    checked = (corrected.trusted != UNKNOWN) & (corrected.noisy == corrected.trusted)
    likely = corrected.posterior[checked]
    is_sure = likely.max(axis=1) >= corrected.threshold
    return np.mean(is_sure & (likely.argmax(axis=1) != corrected.noisy[checked]))


def test_labels_without_noise_are_left_alone(digits, correct):
    """Hardly any right label is changed: no more than the trusted rows show, and a chance error."""
    X, truth, trusted = digits
    corrected = correct(X, truth, trusted, 10)
    rest = trusted == UNKNOWN
    changed = np.mean(corrected.actions[rest] == "changed")
    assert changed <= false_alarm_rate(corrected) + 0.005
    assert np.mean(corrected.corrected[rest] != truth[rest]) < 0.01


def test_two_classes_that_were_swapped_are_swapped_back(digits, correct):
    """Every 3 is called 8 and every 8 is called 3: all of them are corrected."""
    X, truth, trusted = digits
    swap = np.arange(10)
    swap[[3, 8]] = [8, 3]
    corrected = correct(X, swap[truth], trusted, 10)
    swapped = np.isin(truth, (3, 8)) & (trusted == UNKNOWN)
    assert np.mean(corrected.corrected[swapped] == truth[swapped]) > 0.98
    assert set(corrected.actions[swapped]) <= {"changed", "unsure"}


def test_a_class_whose_labels_are_all_wrong_is_recovered(digits, correct):
    """No 4 is called 4, its labels are spread over the others: most come back."""
    X, truth, trusted = digits
    transition = np.eye(10)
    transition[4] = np.where(np.arange(10) == 4, 0, 1 / 9)
    corrected = correct(X, spoil(truth, transition, seed=1), trusted, 10)
    lost = (truth == 4) & (trusted == UNKNOWN)
    assert np.mean(corrected.corrected[lost] == 4) > 0.8


def test_half_wrong_labels_are_mostly_corrected(digits, correct):
    """Of labels that are wrong six times in ten, nine of ten come out right, and the posterior is honest."""
    X, truth, trusted = digits
    corrected = correct(X, spoil(truth, symmetric(10, 0.6), seed=1), trusted, 10)
    rest = trusted == UNKNOWN
    right = corrected.corrected[rest] == truth[rest]
    assert right.mean() > 0.9
    assert corrected.confidence[rest].mean() == pytest.approx(right.mean(), abs=0.03)


def test_a_result_is_short_in_a_notebook(corrected):
    """The counts of the actions, as text and as a table."""
    assert repr(corrected) == (
        "CorrectedLabels(6 images: 1 kept, 2 changed, 1 unsure, 1 trusted, 1 skipped; threshold 0.8)"
    )
    assert "<tr><th>changed</th><td>2</td></tr>" in corrected._repr_html_()


def test_decided_labels_count_as_trusted_but_not_for_figures(corrected):
    """A review's decision is shown as trusted; figures rest on checked trusted labels alone."""
    known = np.where(np.arange(6) == 2, 0, TRUSTED)
    decided = corrected.relying_on(known)
    assert decided.actions[2] == "trusted"
    assert decided.sample.tolist() == corrected.sample.tolist() == [3]


def test_outliers_keep_their_noisy_label(corrected):
    """Found by score or by a person, who alone takes the label away; trusted and skipped images are none."""
    score = np.array([2.0, 0.1, 0.2, 3.0, 4.0, 5.0])
    outliers = Outliers(score, np.array([5, 4, 3, 0]), 0.001, 0, 0.0)
    found = replace(corrected, outliers=outliers, no_class=np.arange(6) == 1)
    assert found.actions.tolist() == ["outlier", "outlier", "unsure", "trusted", "skipped", "outlier"]
    assert found.corrected.tolist() == [0, UNKNOWN, 0, 1, UNKNOWN, UNKNOWN]
    assert found.confidence.tolist() == [0.9, 0.0, 0.6, 1.0, 0.0, 0.0]
    assert found.label_quality.tolist() == [0.9, 0.0, 0.4, 0.0, 0.0, 0.0]
    assert found.label_issues.tolist() == [2, 0]
