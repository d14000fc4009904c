"""Evaluation: everything that is claimed about a classifier, and the data that it was measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assay.errors import DataError
from assay.evaluate.compare import Paired, mcnemar
from assay.evaluate.confidence import brier, expected_calibration_error, negative_log_likelihood
from assay.evaluate.curves import Bin, Covered, covered, reliability
from assay.evaluate.intervals import wilson
from assay.evaluate.scores import Report, classification_report
from assay.noise.intervals import Interval
from assay.types import UNKNOWN, Labels, Probs

Source = Literal["holdout", "cross-validation", "validation", "test set", "holdout of the partial model"]
"""Where the images came from: sealed before fitting; each scored by models that had not seen it; kept aside
while this very model was fitted, and looked at meanwhile; another set altogether; or sealed from a model
that learned from all the other images: not this very model."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a classifier is, how sure that is, and what it was measured on."""

    source: Source
    n: int
    """Images that the figures are from: those whose true class is known."""
    accuracy: Interval
    """Share of the n images predicted right, with Wilson's interval."""
    report: Report
    calibration_error: float
    """Expected calibration error over 15 bins, in [0, 1]."""
    negative_log_likelihood: float
    """Mean of -log P(true class), in nats."""
    brier: float
    """Mean squared distance of the probabilities from the truth, in [0, 2]."""
    paired: Paired | None
    """Against the baseline, which is the first of the pair; None where there is none."""
    unlabelled: int
    """Images left out because their true class is not known."""
    skipped: int
    """Images left out because they could not be used; each is in ``image_issues.csv``."""
    reliability: tuple[Bin, ...]
    """How often predictions of each confidence were right."""
    risk_coverage: tuple[Covered, ...]
    """What is wrong among the surest images."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts, lists and numbers."""
        return {
            "source": self.source,
            "n": self.n,
            "accuracy": self.accuracy.to_json(),
            "report": self.report.to_json(),
            "calibration_error": self.calibration_error,
            "negative_log_likelihood": self.negative_log_likelihood,
            "brier": self.brier,
            "paired": self.paired.to_json() if self.paired else None,
            "unlabelled": self.unlabelled,
            "skipped": self.skipped,
            "reliability": [found.to_json() for found in self.reliability],
            "risk_coverage": [found.to_json() for found in self.risk_coverage],
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Evaluation":
        """What ``to_json`` gave, read back."""
        paired = found["paired"]
        parts = {
            "accuracy": Interval(**found["accuracy"]),
            "report": Report.from_json(found["report"]),
            "paired": Paired.from_json(paired) if paired else None,
            "reliability": tuple(Bin.from_json(one) for one in found["reliability"]),
            "risk_coverage": tuple(Covered(**one) for one in found["risk_coverage"]),
        }
        return Evaluation(**{**found, **parts})


def evaluate(
    truth: Labels,
    probs: Probs,
    class_names: Sequence[str],
    *,
    source: Source,
    baseline_predicted: Labels | None = None,
    skipped: int = 0,
) -> Evaluation:
    """Measure a classifier on images whose true class is known; the most probable class is its answer.

    Parameters
    ----------
    truth : class index of each image; rows that are UNKNOWN are left out and counted
    probs : Float[ndarray, "N K"]  what the classifier said, row by row; rows sum to 1
    class_names : K names, in the order of the indices
    source : what data this is
    baseline_predicted : what the classifier to beat said of the same N images
    skipped : images that could not be used and have no row here

    Raises
    ------
    DataError : no row with a known class; a row of ``probs`` that is no set of probabilities
    LabelError : a true label that is not the index of a class
    ValueError : arrays whose sizes do not agree
    """
    _check_sizes(truth, probs, class_names, baseline_predicted)
    known = truth != UNKNOWN
    n = int(known.sum())
    if n == 0:
        raise DataError(
            f"expected images whose true class is known, got none among {len(truth)} "
            f"({skipped} more were skipped): nothing was measured; give trusted labels for some of them"
        )
    _check_probabilities(probs, known)
    truth, probs = truth[known], probs[known]
    predicted = probs.argmax(axis=1)
    report = classification_report(truth, predicted, class_names)
    return Evaluation(
        source=source,
        n=n,
        accuracy=wilson(int(np.trace(report.confusion)), n),
        report=report,
        calibration_error=expected_calibration_error(probs, truth),
        negative_log_likelihood=negative_log_likelihood(probs, truth),
        brier=brier(probs, truth),
        paired=None if baseline_predicted is None else mcnemar(truth, baseline_predicted[known], predicted),
        unlabelled=len(known) - n,
        skipped=skipped,
        reliability=reliability(probs, truth),
        risk_coverage=covered(probs, truth),
    )


def _check_sizes(
    truth: Labels, probs: Probs, class_names: Sequence[str], baseline_predicted: Labels | None
) -> None:
    expected = (len(truth), len(class_names))
    if probs.shape != expected:
        raise ValueError(
            f"expected probs of shape {expected}, a row for each image and a column for each class, "
            f"got {probs.shape}"
        )
    if baseline_predicted is not None and len(baseline_predicted) != len(truth):
        raise ValueError(
            f"expected baseline_predicted for {len(truth)} images, got {len(baseline_predicted)} labels"
        )


def _check_probabilities(probs: Probs, known: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        good = (probs >= 0).all(axis=1) & (np.abs(probs.sum(axis=1) - 1) < 1e-3)
    strange = np.flatnonzero(known & ~good)
    if strange.size:
        row = strange[0]
        raise DataError(
            f"probs row {row}: expected probabilities that sum to 1, got {np.round(probs[row], 4).tolist()}; "
            "the classifier that gave them is broken"
        )
