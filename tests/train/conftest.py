"""Digits with wrong labels."""

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits


class Digits(NamedTuple):
    """Digits to learn from, six in ten mislabelled, a fifth trusted; and others to test on."""

    X: np.ndarray
    truth: np.ndarray
    noisy: np.ndarray
    trusted: np.ma.MaskedArray
    X_new: np.ndarray
    truth_new: np.ndarray


@pytest.fixture(scope="session")
def digits() -> Digits:
    """800 to learn from."""
    return draw_digits(800)


@pytest.fixture(scope="session")
def many_digits() -> Digits:
    """1,200 to learn from."""
    return draw_digits(1200)


def draw_digits(n: int) -> Digits:
    """Digits as pixels between 0 and 1, ``n`` of them to learn from."""
    X, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    X, truth = X[order] / 16, truth[order]
    old, new = slice(0, n), slice(1200, None)
    wrong = rng.random(n) < 0.6
    noisy = np.where(wrong, (truth[old] + rng.integers(1, 10, n)) % 10, truth[old])
    trusted = np.ma.array(truth[old], mask=rng.random(n) > 0.2)
    return Digits(X[old], truth[old], noisy, trusted, X[new], truth[new])
