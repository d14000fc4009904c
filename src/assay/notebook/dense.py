"""The dense layers of a trained network as Layers, so that they are saved like every other head."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from assay.predict.layers import Layers


def dense_layers(
    layers: Iterable[Any],
    mean: Float[np.ndarray, "D"] | None = None,
    scale: Float[np.ndarray, "D"] | None = None,
) -> Layers:
    """Linear layers with a ReLU between them, from torch's modules in the order in which they run.

    Parameters
    ----------
    layers : Linear, ReLU and Dropout; a batch norm may come first and becomes a part of what follows
    mean, scale : subtracted from each feature before all of them, then divided by; 0 and 1 by default

    Raises
    ------
    ValueError : a layer of another kind
    """
    from torch import nn

    norm: Any = None
    weights: list[np.ndarray] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d) and norm is None and not weights:
            norm = layer
        elif isinstance(layer, nn.Linear):
            weights += [layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()]
        elif not isinstance(layer, nn.ReLU | nn.Dropout):
            raise ValueError(f"expected Linear, ReLU and Dropout, got {type(layer).__name__}")
    width = len(weights[0])
    mean = np.zeros(width, dtype=np.float32) if mean is None else mean
    scale = np.ones(width, dtype=np.float32) if scale is None else scale
    if norm is not None:
        mean, scale, weights[:2] = _absorb(norm, mean, scale, weights[0], weights[1])
    return Layers(mean, scale, tuple(weights), activation="relu")


def _absorb(
    norm: Any, mean: np.ndarray, scale: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """A batch norm standardises, as Layers do first; its own weight and bias go into the next layer."""
    centre = norm.running_mean.double().numpy()
    spread = (norm.running_var.double() + norm.eps).sqrt().numpy()
    gamma, beta = norm.weight.detach().double().numpy(), norm.bias.detach().double().numpy()
    return (
        (mean + scale * centre).astype(np.float32),
        (scale * spread).astype(np.float32),
        [(gamma[:, None] * weight).astype(np.float32), (bias + beta @ weight).astype(np.float32)],
    )
