"""A trained model gets the graph that predicts, if it says what the model says."""

from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from assay.embed.histogram import HistogramBackbone
from assay.embed.tiny import TinyBackbone
from assay.errors import GateError, MissingExtraError, ModelError
from assay.predict.model import Model
from assay.predict.runtime import BATCH, load_runtime
from assay.types import Batch, Mask, Matrix

MOST_DIFFERENCE = 1e-3
"""Between two probabilities of one class of one image."""

LEAST_AGREEMENT = 0.999
"""Share of images of which both say the same class."""

TIE = 1e-3
"""A rounded score this near to a half may be rounded either way."""


@dataclass(frozen=True)
class Parity:
    """How far the graph agrees with the model that it was made of."""

    n: int
    """Images compared."""
    largest_difference: float
    """Of two probabilities of one class of one image."""
    same_class: float
    """Share of the images."""


def check_can_export() -> None:
    """MissingExtraError if onnx is not installed: to be known before a model is learned."""
    if find_spec("onnx") is None:
        raise MissingExtraError("onnx", "train")


def with_graph(model: Model, trunk: Any, images: Batch) -> Model:
    """The model with its graph, and how far they agree among its facts, under ``parity``.

    Parameters
    ----------
    trunk : torch module from float32 pixels (N, 3, S, S) to features (N, D); pixels are
        ``(pixel / 255 - mean) / std`` if the model has a mean, else 0 to 255. None for ``tiny`` and
        ``histogram``
    images : what both are compared on

    Raises
    ------
    GateError : they disagree, or ONNX cannot say what the trunk does
    ModelError : a trunk is missing, or its features are not those that the head was learned on
    MissingExtraError : onnx is not installed
    """
    check_can_export()
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
    expected, found = model.probabilities(features), load_runtime(model).first_look(images)
    clear = ~_near_tie(model, features)
    gap = np.abs(expected - found)[clear]
    largest = float(gap.max(initial=0))
    same = expected.argmax(axis=1)[clear] == found.argmax(axis=1)[clear]
    parity = Parity(len(images), float(f"{largest:.1e}"), float(same.mean()) if len(same) else 1.0)
    # Not "greater than": NaN must not pass.
    if not (largest <= MOST_DIFFERENCE and parity.same_class >= LEAST_AGREEMENT):
        raise GateError(
            f"the exported model is not the trained one: of {parity.n:,} images expected the same class "
            f"for {LEAST_AGREEMENT:.1%} and probabilities within {MOST_DIFFERENCE}, "
            f"got {parity.same_class:.1%} and {largest:.4f}; please report the backbone {model.architecture}"
        )
    return parity


def _near_tie(model: Model, features: Matrix) -> Mask:
    """Images with a score so near to a half that the last bits decide how it is rounded."""
    if not model.head.rounded:
        return np.zeros(len(features), dtype=bool)
    scores = replace(model.head, rounded=False).scores(features)
    near: Mask = (np.abs(scores - np.floor(scores) - 0.5) < TIE).any(axis=1)
    return near


def _features(model: Model, trunk: Any, images: Batch) -> Matrix:
    """What the trained model sees in the images, by torch or NumPy."""
    if trunk is not None:
        return _network_features(model, trunk, images)
    if model.architecture == "tiny":
        return TinyBackbone(model.size).embed(images)
    if model.architecture == "histogram":
        return HistogramBackbone(model.size).embed(images)
    raise ModelError(f"expected the trunk of {model.architecture!r}, got none")


def _network_features(model: Model, trunk: Any, images: Batch) -> Matrix:
    import torch

    trunk.eval()
    with torch.inference_mode():
        parts = [
            trunk(_pixels(model, images[start : start + BATCH])) for start in range(0, len(images), BATCH)
        ]
    found: Matrix = torch.cat(parts).numpy()
    return found


def _pixels(model: Model, images: Batch) -> Any:
    """What the network takes (B, 3, S, S)."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if not model.mean:
        return pixels
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
    return (pixels / 255 - mean) / std
