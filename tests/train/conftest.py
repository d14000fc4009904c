"""Small layers, a small model, and digits with wrong labels."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits

from assay.predict.layers import Layers
from assay.predict.model import Model


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


@pytest.fixture(scope="session")
def draw_layers() -> Callable[..., Layers]:
    """Layers with random numbers: ``widths`` are the inputs, the hidden units, the classes."""

    def draw(*widths, seed=0):
        rng = np.random.default_rng(seed)
        parts = []
        for inputs, outputs in pairwise(widths):
            parts += [rng.normal(size=(inputs, outputs)) / inputs**0.5, rng.normal(size=outputs)]
        mean, scale = rng.normal(size=widths[0]), rng.uniform(0.5, 2, widths[0])
        return Layers(
            mean.astype(np.float32), scale.astype(np.float32), tuple(p.astype(np.float32) for p in parts)
        )

    return draw


@pytest.fixture
def model(draw_layers) -> Model:
    """Three classes on a backbone of one tensor."""
    return Model(
        architecture="tf_efficientnet_lite0.in1k",
        size=160,
        labels=("007", "=cmd()", "überraschung \udcff"),
        head=draw_layers(8, 5, 3),
        titles=("a", "b", "c"),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.1),
        backbone={"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.array(7)},
        facts={"system": "assay", "seed": 3, "figures": {"holdout": {"n": 10}}},
    )


@pytest.fixture
def folder(model, tmp_path):
    """The model, saved."""
    model.save(tmp_path / "model", card="# A card\n")
    return tmp_path / "model"
