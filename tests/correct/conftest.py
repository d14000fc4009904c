"""Classes that are clouds of points, and the whole way from labels to corrected labels."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from assay.correct.evidence import NoisyLabels
from assay.correct.result import CorrectedLabels, correct_labels
from assay.data.split import folds
from assay.types import UNKNOWN


@pytest.fixture(scope="session")
def draw_clouds() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(X, truth) of ``n`` points in ``k`` classes; neighbours overlap more the smaller ``distance`` is."""

    def draw(n, k=3, distance=4.0, seed=0):
        rng = np.random.default_rng(seed)
        truth = rng.integers(k, size=n)
        angle = 2 * np.pi * truth / k
        centre = np.column_stack([np.cos(angle), np.sin(angle)]) * distance / 2
        return centre + rng.normal(size=(n, 2)), truth

    return draw


@pytest.fixture(scope="session")
def logistic() -> Callable[[int], LogisticRegression]:
    """A way to make a classifier that is fast and has one optimum."""
    return lambda seed: LogisticRegression(max_iter=2_000, random_state=seed)


@pytest.fixture(scope="session")
def mostly_unknown() -> Callable[..., np.ndarray]:
    """``labels`` with each row but the first ``n`` of every class UNKNOWN."""

    def hide(labels, n):
        trusted = np.full(len(labels), UNKNOWN)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)[:n]
            trusted[rows] = label
        return trusted

    return hide


@pytest.fixture(scope="session")
def correct(logistic) -> Callable[..., CorrectedLabels]:
    """Corrected labels from features and labels, by the whole chain."""

    def whole(X, noisy, trusted, k):
        classes = [str(label) for label in range(k)]
        labels = NoisyLabels(noisy)
        return correct_labels(
            (X,), labels, trusted, folds(trusted, 5, 0), logistic, classes=classes
        ).corrected

    return whole
