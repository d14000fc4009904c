"""Fit any classifier to probabilities instead of labels."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from assay.types import Matrix, Probs

MIN_SHARE = 0.01
"""A class less probable than this is not worth a copy of the row; so there are at most 100 copies."""

UNMET = 0.01
"""Probability left for chance by a classifier that never met some of the classes."""


@runtime_checkable
class SoftClassifier(Protocol):
    """A classifier that learns from P(class) as it is."""

    def fit_soft(self, X: Matrix, targets: Probs) -> Any:
        """Learn from X (N, D) and targets (N, K), rows sum to 1; ``classes_`` become 0 … K-1."""
        ...


def fit_soft(classifier: Any, X: Matrix, targets: Probs) -> None:
    """Fit ``classifier`` on soft targets (N, K), in the best way that it allows.

    Directly if it has ``fit_soft``. Else, if it takes sample weights, on a copy of the row for each class,
    weighted by its probability: the same loss for every classifier whose loss is a weighted sum over rows.
    Else on the most probable class of each row (classification EM, Celeux & Govaert 1992).
    """
    if isinstance(classifier, SoftClassifier):
        classifier.fit_soft(X, targets)
        return
    name = weight_name(classifier)
    if name is None:
        classifier.fit(X, targets.argmax(axis=1))
        return
    rows, classes, weight = weighted_copies(targets)
    classifier.fit(X[rows], classes, **{name: weight})


def weighted_copies(
    targets: Probs,
) -> tuple[Int[np.ndarray, "C"], Int[np.ndarray, "C"], Float[np.ndarray, "C"]]:
    """Row, class and weight of each copy; the weights of a row's copies sum to 1."""
    worth = targets >= MIN_SHARE
    # The most probable class always stays: among hundreds of classes each one may be below MIN_SHARE.
    worth[np.arange(len(targets)), targets.argmax(axis=1)] = True
    kept = np.where(worth, targets, 0.0)
    kept /= kept.sum(axis=1, keepdims=True)
    rows, classes = np.nonzero(kept)
    return rows, classes, kept[rows, classes]


def weight_name(classifier: Any) -> str | None:
    """What ``fit`` calls its sample weights, a pipeline those of its last step; None if it takes none."""
    if isinstance(classifier, Pipeline):
        step, last = classifier.steps[-1]
        inner = weight_name(last)
        return f"{step}__{inner}" if inner else None
    return "sample_weight" if has_fit_parameter(classifier, "sample_weight") else None


def predict_all(classifier: Any, X: Matrix, n_classes: int) -> Probs:
    """P(class) (N, K) for all K classes, also those that the classifier never met.

    Raises
    ------
    ValueError : the classifier gives NaN, infinity or no probability at all, as some do of numbers that are
        far apart
    """
    found = np.asarray(classifier.predict_proba(X), dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(found).all(axis=1) & (found.sum(axis=1) > 0)))
    if bad.size:
        raise ValueError(
            f"expected probabilities of {type(classifier).__name__}, got {found[bad[0]].tolist()} for row "
            f"{bad[0]} and {len(bad) - 1:,} more; scale the features, or take another classifier"
        )
    met = np.asarray(classifier.classes_, dtype=np.int64)
    probs = np.zeros((len(found), n_classes))
    probs[:, met] = found
    if len(met) < n_classes:
        # Never zero: the given label must be able to speak for a class without trusted images.
        probs = (1 - UNMET) * probs + UNMET / n_classes
    shares: Probs = probs / probs.sum(axis=1, keepdims=True)
    return shares
