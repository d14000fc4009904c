"""The notebook's networks in torch: build, train and apply one, and save its dense layers as a head."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from assay.predict.layers import Layers
from assay.types import Labels, Matrix, Progress

SCORE_BATCH = 256
"""Rows that pass through a trained network at a time."""

STEPS_PER_REPORT = 50


class Pixels(nn.Module):
    """Rows of pixel values 0 … 255, as ``PixelBackbone`` stores them, to images (B, 3, S, S) in [0, 1]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, S · S · 3) to (B, 3, S, S), channels last in memory."""
        return (rows / 255).reshape(-1, self.size, self.size, 3).permute(0, 3, 1, 2)


def build_network(
    build: Callable[[int, int], nn.Sequential], n_features: int, n_classes: int, seed: int
) -> nn.Sequential:
    """The network with Glorot-uniform weights drawn from ``seed`` and biases of 0."""
    # On "meta" nothing is drawn: torch's own initialisation would use the global generator.
    with torch.device("meta"):
        network = build(n_features, n_classes)
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for layer in network:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            outputs, inputs = layer.weight.shape[:2]
            positions = layer.weight[0, 0].numel()  # of a kernel; 1 for a dense layer
            limit = (6 / ((inputs + outputs) * positions)) ** 0.5  # Glorot & Bengio 2010
            with torch.no_grad():
                layer.weight.uniform_(-limit, limit, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()
        elif list(layer.parameters()):
            # to_empty left whatever lay in memory as its weights.
            raise ValueError(
                f"build: expected Linear, Conv2d and batch norms, got weights of {type(layer).__name__}"
            )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stub lacks memory_format alone


def train_network(
    network: nn.Sequential,
    X: Matrix,
    rows: Int[np.ndarray, "R"],
    target: Int[np.ndarray, "R"],
    *,
    mean: Float[np.ndarray, "D"],
    scale: Float[np.ndarray, "D"],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    dtype: str,
    seed: int,
    progress: Progress,
) -> Iterator[tuple[int, float, float, float]]:
    """Train in place; yields epoch, mean loss, accuracy and seconds after each epoch.

    Parameters
    ----------
    target : class index of each row of ``rows``
    mean, scale : subtracted from the features of X, then divided by
    """
    generator = torch.Generator().manual_seed(seed + 1)
    # Keras' epsilon; torch's default is 1e-8.
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, eps=1e-7, fused=True)
    # Without units for it a CPU is slower in bfloat16; an older torch, which cannot report them, has none.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    in_bfloat16 = dtype == "bfloat16" or (dtype == "auto" and bool(capabilities.get("amx_bf16", False)))
    batch_norm = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in network)
    network.train()
    for epoch in range(1, epochs + 1):
        start, loss, hits, seen = time.perf_counter(), 0.0, 0, 0
        for step, batch in enumerate(batches(len(rows), batch_size, generator, batch_norm)):
            values = _standardised(X[rows[batch]], mean, scale)
            wanted = torch.from_numpy(target[batch])
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
                for layer in network:
                    if isinstance(layer, nn.Dropout):
                        # torch's dropout draws from the global generator only.
                        kept = torch.rand(values.shape, generator=generator) >= layer.p
                        values = values * kept / (1 - layer.p)
                    else:
                        values = layer(values)
            batch_loss = functional.cross_entropy(values.float(), wanted)
            optimiser.zero_grad()
            batch_loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
            seen += len(batch)
            loss += batch_loss.item() * len(batch)
            hits += int((values.argmax(dim=1) == wanted).sum())
            if step % STEPS_PER_REPORT == 0 or seen == len(rows):
                progress("train", (epoch - 1) * len(rows) + seen, epochs * len(rows))
        yield epoch, loss / seen, hits / seen, time.perf_counter() - start
    network.eval()


def batches(n: int, size: int, generator: torch.Generator, batch_norm: bool) -> Iterator[Labels]:
    """Shuffled batches of the rows 0 … n-1; the last one may be short."""
    order = torch.randperm(n, generator=generator).numpy()
    ends = [*range(size, n, size), n]
    if batch_norm and len(ends) > 1 and n - ends[-2] == 1:
        del ends[-2]  # a single last row has no statistics of its own: it joins the batch before
    for batch in np.split(order, ends[:-1]):
        yield np.sort(batch)  # a memory map is then read forwards


def _standardised(X: Matrix, mean: Float[np.ndarray, "D"], scale: Float[np.ndarray, "D"]) -> torch.Tensor:
    return torch.from_numpy((X.astype(np.float32) - mean) / scale)


def network_scores(
    network: nn.Sequential, X: Matrix, mean: Float[np.ndarray, "D"], scale: Float[np.ndarray, "D"]
) -> Float[np.ndarray, "N K"]:
    """Logits of a trained network, in float32."""
    blocks = []
    with torch.inference_mode():
        # In blocks: only the result grows in memory with N.
        for start in range(0, len(X), SCORE_BATCH):
            rows = _standardised(X[start : start + SCORE_BATCH], mean, scale)
            blocks.append(network(rows).numpy())
    return np.concatenate(blocks)


def dense_layers(
    layers: Iterable[nn.Module],
    mean: Float[np.ndarray, "D"] | None = None,
    scale: Float[np.ndarray, "D"] | None = None,
) -> Layers:
    """Linear layers with ReLUs between them as the head of a saved model.

    Parameters
    ----------
    layers : Linear, ReLU and Dropout, in order; a batch norm may come first
    mean, scale : subtracted from each feature before all layers, then divided by; 0 and 1 by default
    """
    norm: nn.BatchNorm1d | None = None
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
        # It standardises, as Layers do first; its own weight and bias go into the next layer.
        assert norm.running_mean is not None
        assert norm.running_var is not None
        centre = norm.running_mean.double().numpy()
        spread = (norm.running_var.double() + norm.eps).sqrt().numpy()
        gamma, beta = norm.weight.detach().double().numpy(), norm.bias.detach().double().numpy()
        mean = (mean + scale * centre).astype(np.float32)
        scale = (scale * spread).astype(np.float32)
        weight, bias = weights[:2]
        weights[:2] = [
            (gamma[:, None] * weight).astype(np.float32),
            (bias + beta @ weight).astype(np.float32),
        ]
    return Layers(mean, scale, tuple(weights), activation="relu")
