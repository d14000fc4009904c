import numpy as np
import pytest

from assay.correct.result import ACTIONS, CorrectedLabels
from assay.types import UNKNOWN

#  row: 0 agrees, 1 another class, 2 not sure, 3 trusted against the label, 4 skipped, 5 without a label
GIVEN = np.array([0, 0, 1, 0, 1, UNKNOWN])
TRUSTED = np.array([UNKNOWN, UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN])
POSTERIOR = np.array([[0.9, 0.1], [0.05, 0.95], [0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.15, 0.85]])
USABLE = np.array([True, True, True, True, False, True])


@pytest.fixture
def corrected():
    return CorrectedLabels(GIVEN, TRUSTED, POSTERIOR, POSTERIOR, USABLE, strength=1.0, threshold=0.8)


def test_the_fixed_label_is_the_trusted_or_the_most_probable_one(corrected):
    """A trusted class is kept whatever the posterior says, and a skipped image has none."""
    assert corrected.corrected.tolist() == [0, 1, 0, 1, UNKNOWN, 1]
    assert corrected.confidence.tolist() == [0.9, 0.95, 0.6, 1.0, 0.0, 0.85]


def test_the_given_label_is_judged(corrected):
    """P(given is right) is 0 or 1 where the class is known, and 0 where there is no label to judge."""
    assert corrected.label_quality.tolist() == [0.9, 0.05, 0.4, 0.0, 0.0, 0.0]


def test_each_image_has_an_action(corrected):
    """Kept, changed, unsure, trusted or skipped; an image without a label is changed when it gets one."""
    assert corrected.actions.tolist() == ["kept", "changed", "unsure", "trusted", "skipped", "changed"]
    assert dict(corrected.counts) == {"kept": 1, "changed": 2, "unsure": 1, "trusted": 1, "skipped": 1}
    assert tuple(corrected.counts) == ACTIONS


def test_another_threshold_is_another_result(corrected):
    """The evidence stays, the judgement changes, and the old result stays as it was."""
    strict = corrected.at(threshold=0.92)
    assert strict.actions.tolist() == ["unsure", "changed", "unsure", "trusted", "skipped", "unsure"]
    assert strict.corrected.tolist() == corrected.corrected.tolist()
    assert corrected.threshold == 0.8


def test_a_confidence_at_the_threshold_is_enough(corrected):
    """The threshold itself counts as sure."""
    assert corrected.at(0.9).actions[0] == "kept"


def test_the_suspects_are_labels_that_nobody_has_checked(corrected):
    """Trusted and skipped images, and those without a label, are no suspects."""
    assert corrected.label_issues.tolist() == [1, 2, 0]


def test_a_trusted_label_that_agrees_makes_the_given_one_right(corrected):
    """Where both labels agree the given one is right for certain."""
    agreed = CorrectedLabels(GIVEN, GIVEN, POSTERIOR, POSTERIOR, USABLE, strength=1.0)
    assert agreed.label_quality.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.usefixtures("without_shape_checks")
def test_evidence_of_different_length_is_refused():
    """Every image needs every piece of evidence."""
    message = (
        r"expected one length for all, got \{'noisy': 6, 'trusted': 6, 'pred_probs': 6, 'posterior': 5, "
    )
    with pytest.raises(ValueError, match=message):
        CorrectedLabels(GIVEN, TRUSTED, POSTERIOR, POSTERIOR[:5], USABLE, strength=1.0)
