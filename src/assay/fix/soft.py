"""Fit any classifier to probabilities instead of labels."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from assay._types import Matrix, Probs, Weights

MIN_WEIGHT = 0.01
"""A class less probable than this is not worth a copy of the row."""


@runtime_checkable
class SoftClassifier(Protocol):
    """A classifier that learns from P(class) as it is."""

    def fit_soft(self, X: Matrix, targets: Probs, sample_weight: Weights | None = None) -> Any:
        """Learn from X (N, D) and targets (N, K), rows sum to 1."""
        ...


def fit_soft(classifier: Any, X: Matrix, targets: Probs, weight: Weights) -> None:
    """Fit ``classifier`` on soft targets: directly if it can, else on weighted copies of each row.

    The copies give the same loss for every classifier whose loss is a weighted sum over rows.
    """
    if isinstance(classifier, SoftClassifier):
        classifier.fit_soft(X, targets, weight)
        return
    rows, classes = np.nonzero(targets >= MIN_WEIGHT)
    classifier.fit(X[rows], classes, sample_weight=targets[rows, classes] * weight[rows])


def predict_all(classifier: Any, X: Matrix, n_classes: int) -> Probs:
    """P(class) (N, K) for all K classes, also those that the classifier never met."""
    found = np.asarray(classifier.predict_proba(X), dtype=np.float64)
    seen = np.asarray(classifier.classes_, dtype=np.int64)
    probs = np.zeros((len(found), n_classes))
    probs[:, seen] = found
    if len(seen) < n_classes:
        # Never zero: the given label must be able to speak for a class without trusted images.
        probs = 0.99 * probs + 0.01 / n_classes
    return probs / probs.sum(axis=1, keepdims=True)
