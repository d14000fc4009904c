"""Logistic regression as Layers, so that it is saved and applied like every other head."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from assay._types import Labels, Matrix
from assay.learn.layers import Layers


def fit_logistic(X: Matrix, labels: Labels, n_classes: int, *, seed: int = 0) -> Layers:
    """Multinomial logistic regression on X (N, D); classes without a row are never predicted."""
    X = np.asarray(X, dtype=np.float64)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale[scale < 1e-9] = 1.0
    fitted = LogisticRegression(max_iter=2000, random_state=seed).fit((X - mean) / scale, labels)
    weight = np.zeros((X.shape[1], n_classes), dtype=np.float32)
    bias = np.full(n_classes, -30.0, dtype=np.float32)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        # Two classes are kept as one score: the second's; the first's is 0.
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    weight[:, fitted.classes_], bias[fitted.classes_] = coefficients.T, intercepts
    return Layers(mean.astype(np.float32), scale.astype(np.float32), (weight, bias))
