"""The training of an MLPHead: the only part that needs torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from assay._types import Matrix, Prior, Probs, Weights

WARM_UP = 0.2
"""Share of the steps on which the learning rate rises."""


def train_head(
    X: Matrix,
    targets: Probs,
    weight: Weights,
    mean: Prior,
    scale: Prior,
    settings: Mapping[str, Any],
    seed: int,
) -> list[np.ndarray]:
    """Weights and biases, layer by layer, that minimise the weighted cross-entropy to ``targets``.

    Parameters
    ----------
    mean, scale : (D,) subtracted from each feature, then divided by
    settings : an MLPHead's parameters
    """
    generator = torch.Generator().manual_seed(seed)
    layers = _layers(X.shape[1], settings["hidden"], targets.shape[1], generator)
    optimiser = torch.optim.AdamW(
        layers.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    batch = min(settings["batch_size"], max(len(X) // 4, 1))
    an_epoch = -(-len(X) // batch)
    epochs = max(settings["epochs"], -(-settings["min_steps"] // an_epoch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings["learning_rate"], total_steps=max(epochs * an_epoch, 2), pct_start=WARM_UP
    )
    at, per = torch.from_numpy(mean), torch.from_numpy(scale)
    for rows in _batches(len(X), batch, epochs, generator):
        values = (torch.from_numpy(np.asarray(X[rows], dtype=np.float32)) - at) / per
        values = _drop(values, settings["input_dropout"], generator)
        for number, layer in enumerate(layers):
            if number:
                values = _drop(functional.gelu(values), settings["dropout"], generator)
            values = layer(values)
        loss = -(torch.from_numpy(targets[rows]) * values.log_softmax(dim=1)).sum(dim=1)
        loss = (loss * torch.from_numpy(weight[rows])).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        schedule.step()
    return [part.detach().numpy().copy() for layer in layers for part in (layer.weight.T, layer.bias)]


def _layers(width: int, hidden: int, classes: int, generator: torch.Generator) -> nn.ModuleList:
    """Linear layers, drawn from ``generator`` alone: no global seed is set."""
    sizes = [width, hidden, classes] if hidden else [width, classes]
    layers = nn.ModuleList()
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        with torch.no_grad():
            layer.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            layer.bias.zero_()
        layers.append(layer)
    return layers


def _batches(n: int, size: int, epochs: int, generator: torch.Generator) -> Any:
    """Shuffled row numbers, ``size`` at a time; the last batch of an epoch may be short."""
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator).numpy()
        for start in range(0, n, size):
            # Sorted, a memory map is read forwards.
            yield np.sort(order[start : start + size])


def _drop(values: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Dropout from a generator of its own; torch's takes only the global one."""
    if share == 0:
        return values
    keep = torch.rand(values.shape, generator=generator) >= share
    return values * keep / (1 - share)
