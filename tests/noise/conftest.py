"""Labels drawn with a known transition."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def draw_pairs() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(noisy, trusted) of ``n`` images with even classes, drawn from ``transition``."""

    def draw(transition, n, seed=0):
        rng = np.random.default_rng(seed)
        trusted = rng.integers(len(transition), size=n)
        noisy = (transition.cumsum(axis=1)[trusted] < rng.random((n, 1))).sum(axis=1)
        return np.minimum(noisy, len(transition) - 1), trusted

    return draw


@pytest.fixture(scope="session")
def pairs_of() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(noisy, trusted) with exactly these counts at [true, noisy]."""

    def unroll(counts):
        cells = np.repeat(np.arange(counts.size), counts.ravel())
        return cells % len(counts), cells // len(counts)

    return unroll
