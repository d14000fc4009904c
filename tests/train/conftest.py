"""Digits with wrong labels."""

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits


class Digits(NamedTuple):
    """1,200 digits to learn from, six in ten mislabelled, a fifth trusted; the others to test on."""

    X: np.ndarray
    truth: np.ndarray
    noisy: np.ndarray
    trusted: np.ma.MaskedArray
    X_new: np.ndarray
    truth_new: np.ndarray


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Digits as pixels between 0 and 1."""
    X, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    X, truth = X[order] / 16, truth[order]
    old, new = slice(0, 1200), slice(1200, None)
    wrong = rng.random(1200) < 0.6
    noisy = np.where(wrong, (truth[old] + rng.integers(1, 10, 1200)) % 10, truth[old])
    trusted = np.ma.array(truth[old], mask=rng.random(1200) > 0.2)
    return Digits(X[old], truth[old], noisy, trusted, X[new], truth[new])
