"""A model of drawn images, and images to predict."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from small_models import model, new_images

from assay.predict.layers import Layers
from assay.predict.model import Model

__all__ = ["model", "new_images"]


@pytest.fixture(scope="session")
def named_model() -> Model:
    """Three classes with odd labels and a random head, on a backbone of two tensors."""
    generator = np.random.default_rng(0)
    shapes = (8, 5), (5,), (5, 3), (3,)
    weights = tuple(generator.normal(size=shape).astype(np.float32) for shape in shapes)
    return Model(
        architecture="tf_efficientnet_lite0.in1k",
        size=160,
        labels=("007", "=cmd()", "überraschung \udcff"),
        head=Layers(np.zeros(8, np.float32), np.ones(8, np.float32), weights),
        titles=("a", "b", "c"),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.1),
        backbone={"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.array(7)},
        facts={"system": "assay", "seed": 3, "figures": {"holdout": {"n": 10}}},
    )


@pytest.fixture
def folder(named_model, tmp_path):
    """That model with a graph, saved."""
    named_model.save(tmp_path / "model", card="# A card\n")
    return tmp_path / "model"


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
