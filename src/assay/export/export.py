"""A trained model gets its ONNX graph, if the graph predicts what the model predicts."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from assay.embed.device import one_torch_thread
from assay.embed.histogram import HistogramBackbone
from assay.embed.tiny import TinyBackbone
from assay.errors import GateError, ModelError
from assay.predict.model import Model
from assay.predict.runtime import BATCH, load_runtime
from assay.types import Batch, Matrix

MAX_DIFFERENCE = 1e-3
"""Of two probabilities of one class of one image."""

MIN_AGREEMENT = 0.999
"""Share of images of which both predict the same class."""


@dataclass(frozen=True)
class Parity:
    """How far the graph agrees with the model that it was made of."""

    n: int
    """Images compared."""
    largest_difference: float
    """Of two probabilities of one class of one image."""
    same_class: float
    """Share of the images."""


def with_graph(model: Model, trunk: Any, images: Batch) -> Model:
    """The model with its graph, and their agreement among its facts, under ``parity``.

    Parameters
    ----------
    trunk : torch module from float32 pixels (N, 3, S, S) to features (N, D); pixels are
        ``(pixel / 255 - mean) / std`` if the model has a mean, else 0 to 255. None for ``tiny`` and
        ``histogram``
    images : what both are compared on

    Raises
    ------
    GateError : they disagree, or ONNX cannot express the trunk
    ModelError : a trunk is missing, or its features are not those that the head was trained on
    MissingExtraError : the trunk needs torch's exporter, and onnxscript is not installed
    """
    from assay.export.graph import build_graph

    features = _features(model, trunk, images)
    if features.shape[1] != len(model.head.mean):
        raise ModelError(
            f"expected {len(model.head.mean)} features, as the head has, "
            f"got {features.shape[1]} of the trunk of {model.architecture!r}"
        )
    exported = replace(model, graph=build_graph(model, trunk))
    parity = check_parity(exported, features, images)
    return replace(exported, facts={**model.facts, "parity": asdict(parity)})


def check_parity(model: Model, features: Matrix, images: Batch) -> Parity:
    """Compare the graph on images with the head on their features.

    Raises
    ------
    GateError : a probability differs by more than 1e-3, or more than one class in 1,000
    """
    expected, found = model.probabilities(features), load_runtime(model).without_tta(images)
    largest = float(np.abs(expected - found).max(initial=0))
    same = expected.argmax(axis=1) == found.argmax(axis=1)
    parity = Parity(len(images), float(f"{largest:.1e}"), float(same.mean()) if len(same) else 1.0)
    # Not "greater than": NaN must not pass.
    if not (largest <= MAX_DIFFERENCE and parity.same_class >= MIN_AGREEMENT):
        raise GateError(
            f"the exported model differs from the trained one: of {parity.n:,} images expected the same "
            f"class for {MIN_AGREEMENT:.1%} and probabilities within {MAX_DIFFERENCE}, "
            f"got {parity.same_class:.1%} and {largest:.4f}; please report the backbone {model.architecture}"
        )
    return parity


def _features(model: Model, trunk: Any, images: Batch) -> Matrix:
    """The features (N, D) of the trained model, by torch or NumPy."""
    if trunk is None:
        if model.architecture == "tiny":
            return TinyBackbone(model.size).embed(images)
        if model.architecture == "histogram":
            return HistogramBackbone(model.size).embed(images)
        raise ModelError(f"expected the trunk of {model.architecture!r}, got none")
    import torch

    trunk.eval()
    parts = []
    # Where other programs compute too, threads of torch wait for each other: four times the CPU time.
    with torch.inference_mode(), one_torch_thread():
        for start in range(0, len(images), BATCH):
            pixels = (
                torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).float()
            )  # (B, 3, S, S)
            if model.mean:
                mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
                pixels = (pixels / 255 - mean) / std
            parts.append(trunk(pixels))
    found: Matrix = torch.cat(parts).numpy()
    return found
