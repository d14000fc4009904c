"""The training of an MLPHead: the only part that needs torch."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from assay.types import Labels, Matrix, PerImage, Probs

WARM_UP = 0.2
"""Share of the steps on which the learning rate rises."""

FEWEST = 10
"""Steps of a cycle; torch divides by zero when the rise is one step long."""


def train_head(
    X: Matrix,
    targets: Probs,
    weight: PerImage,
    mean: Float[np.ndarray, "D"],
    scale: Float[np.ndarray, "D"],
    settings: Mapping[str, Any],
    seed: int,
) -> tuple[np.ndarray, ...]:
    """Weights and biases, layer by layer, that minimise the weighted cross-entropy to ``targets``.

    Parameters
    ----------
    weight : of each row, >= 0; a row of weight 0 is as if it were not there
    mean, scale : subtracted from each feature, then divided by
    settings : an MLPHead's parameters
    """
    generator = torch.Generator().manual_seed(seed)
    layers = _layers(X.shape[1], settings["hidden"], targets.shape[1], generator)
    rows = np.flatnonzero(weight)
    batch = min(settings["batch_size"], max(len(rows) // 4, 1))
    an_epoch = -(-len(rows) // batch)
    epochs = max(settings["epochs"], -(-settings["min_steps"] // an_epoch))
    optimiser = torch.optim.AdamW(
        [part for layer in layers for part in layer.parameters()],
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings["learning_rate"], total_steps=max(epochs * an_epoch, FEWEST), pct_start=WARM_UP
    )
    at, per = torch.from_numpy(mean), torch.from_numpy(scale)
    for some in _batches(rows, batch, epochs, generator):
        values = (torch.from_numpy(np.asarray(X[some], dtype=np.float32)) - at) / per
        values = _drop(values, settings["input_dropout"], generator)
        for number, layer in enumerate(layers):
            if number:
                values = _drop(functional.gelu(values), settings["dropout"], generator)
            values = layer(values)
        loss = -(torch.from_numpy(targets[some]) * values.log_softmax(dim=1)).sum(dim=1)
        loss = (loss * torch.from_numpy(weight[some])).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        schedule.step()
    return tuple(part.detach().numpy().copy() for layer in layers for part in (layer.weight.T, layer.bias))


def _layers(width: int, hidden: int, classes: int, generator: torch.Generator) -> list[nn.Linear]:
    """Linear layers, drawn from ``generator`` alone: no global seed is set."""
    layers = []
    for fan_in, fan_out in pairwise([width, hidden, classes] if hidden else [width, classes]):
        # On "meta" nothing is drawn; torch's own start would come from the global seed.
        layer = nn.Linear(fan_in, fan_out, device="meta", dtype=torch.float32).to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            layer.bias.zero_()
        layers.append(layer)
    return layers


def _batches(rows: Labels, size: int, epochs: int, generator: torch.Generator) -> Iterator[Labels]:
    """Shuffled ``rows``, ``size`` at a time; the last batch of an epoch may be short."""
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator).numpy()
        for start in range(0, len(rows), size):
            # Sorted, a memory map is read forwards.
            yield rows[np.sort(order[start : start + size])]


def _drop(values: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Dropout from a generator of its own; torch's takes only the global one."""
    if share == 0:
        return values
    keep = torch.rand(values.shape, generator=generator, dtype=values.dtype) >= share
    return values * keep / (1 - share)
