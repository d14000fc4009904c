"""Logistic regression as Layers, so that it is saved and applied like every other head."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

from assay.errors import LabelError
from assay.predict.layers import Layers, moments
from assay.types import Labels, Matrix

ABSENT = -30.0
"""Score of a class without a row; the scores of the others sum to 0, so their best is far above it."""


def fit_logistic(X: Matrix, labels: Labels, n_classes: int, *, C: float = 1.0) -> Layers:
    """Multinomial logistic regression on X (N, D); classes without a row are never predicted.

    Labels that are all of one class give a head that always predicts it.

    Parameters
    ----------
    C : scikit-learn's: the weight of the data against that of small coefficients

    Raises
    ------
    LabelError : no label
    """
    if not len(labels):
        raise LabelError("expected labels to fit to, got none")
    mean, scale = moments(X)
    if len(np.unique(labels)) == 1:
        bias = np.full(n_classes, ABSENT, dtype=np.float32)
        bias[labels[0]] = 0.0
        return Layers(mean, scale, (np.zeros((len(mean), n_classes), dtype=np.float32), bias))
    fitted = LogisticRegression(max_iter=2000, C=C).fit((X.astype(np.float64) - mean) / scale, labels)
    return logistic_layers(fitted, n_classes, mean, scale)


def logistic_layers(
    fitted: Any, n_classes: int, mean: Float[np.ndarray, "D"], scale: Float[np.ndarray, "D"]
) -> Layers:
    """A LogisticRegression that was fitted to features standardised by ``mean`` and ``scale``."""
    weight = np.zeros((len(mean), n_classes), dtype=np.float32)
    bias = np.full(n_classes, ABSENT, dtype=np.float32)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        # scikit-learn keeps one score for two classes: the second's; the first's is 0.
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    weight[:, fitted.classes_], bias[fitted.classes_] = coefficients.T, intercepts
    return Layers(mean, scale, (weight, bias))
