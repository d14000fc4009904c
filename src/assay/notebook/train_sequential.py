"""The training of a SequentialClassifier: the only part that needs torch."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from assay.types import Labels, Matrix, Progress

KERAS_EPSILON = 1e-7
"""Of Adam; torch's own default is 1e-8."""

SCORED_TOGETHER = 256
"""Rows that go through a finished network at a time."""

REPORTED = 50
"""Steps between two calls of the progress."""


@dataclass(frozen=True)
class Training:
    """How a network is trained; the fields are those of ``SequentialClassifier``."""

    epochs: int
    batch_size: int
    learning_rate: float
    dtype: str
    mean: Float[np.ndarray, "D"]
    scale: Float[np.ndarray, "D"]
    seed: int

    @property
    def in_bfloat16(self) -> bool:
        """Whether products are taken in bfloat16."""
        return self.dtype == "bfloat16" or (self.dtype == "auto" and multiplies_bfloat16())


def multiplies_bfloat16() -> bool:
    """Whether this processor has units for bfloat16 matrices; elsewhere it is slower than float32."""
    # Versions of torch that cannot tell are taken for processors that cannot.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


class Pixels(nn.Module):
    """Rows of pixel values 0 … 255, as ``PixelBackbone`` keeps them, to images (B, 3, S, S) in [0, 1]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, S · S · 3) to (B, 3, S, S); channels last in memory, as they came."""
        return (rows / 255).reshape(-1, self.size, self.size, 3).permute(0, 3, 1, 2)


def build_network(
    build: Callable[[int, int], nn.Sequential], n_features: int, n_classes: int, seed: int
) -> nn.Sequential:
    """The network, its weights drawn Glorot-uniform from ``seed``, its biases 0.

    Raises
    ------
    ValueError : a layer with weights that this cannot start
    """
    # On "meta" nothing is drawn; torch's own start would come from the global seed.
    with torch.device("meta"):
        network = build(n_features, n_classes)
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for layer in network:
        _start(layer, generator)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stub lacks memory_format alone


def _start(layer: nn.Module, generator: torch.Generator) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d):
        outputs, inputs = layer.weight.shape[:2]
        around = layer.weight[0, 0].numel()  # positions that a convolution looks at; 1 for a dense layer
        limit = (6 / ((inputs + outputs) * around)) ** 0.5  # Glorot & Bengio 2010
        with torch.no_grad():
            layer.weight.uniform_(-limit, limit, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.reset_parameters()
    elif list(layer.parameters()):
        raise ValueError(
            f"build: expected Linear, Conv2d and batch norms, got weights of {type(layer).__name__}"
        )


def train_network(
    network: nn.Sequential,
    X: Matrix,
    rows: Int[np.ndarray, "R"],
    target: Int[np.ndarray, "R"],
    training: Training,
    progress: Progress,
) -> Iterator[tuple[int, float, float, float]]:
    """Train in place; epoch, mean loss, accuracy and seconds after each epoch.

    Parameters
    ----------
    target : the class index of each row of ``rows``
    """
    generator = torch.Generator().manual_seed(training.seed + 1)
    optimiser = torch.optim.Adam(
        network.parameters(), lr=training.learning_rate, eps=KERAS_EPSILON, fused=True
    )
    network.train()
    together = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in network)
    for epoch in range(1, training.epochs + 1):
        start, loss, hits, seen = time.perf_counter(), 0.0, 0, 0
        for step, some in enumerate(_batches(len(rows), training.batch_size, generator, together)):
            values = _values(X, rows[some], training.mean, training.scale)
            wanted = torch.from_numpy(target[some])
            with torch.autocast("cpu", torch.bfloat16, enabled=training.in_bfloat16):
                logits = _forward(network, values, generator)
            batch_loss = functional.cross_entropy(logits.float(), wanted)
            optimiser.zero_grad()
            batch_loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
            seen += len(some)
            loss += batch_loss.item() * len(some)
            hits += int((logits.argmax(dim=1) == wanted).sum())
            if step % REPORTED == 0 or seen == len(rows):
                progress("train", (epoch - 1) * len(rows) + seen, training.epochs * len(rows))
        yield epoch, loss / seen, hits / seen, time.perf_counter() - start
    network.eval()


def _batches(n: int, size: int, generator: torch.Generator, together: bool) -> Iterator[Labels]:
    """0 … n-1, shuffled, ``size`` at a time; the last batch may be short.

    Parameters
    ----------
    together : a lone last row joins the batch before, for alone it has no statistics
    """
    order = torch.randperm(n, generator=generator).numpy()
    ends = [*range(size, n, size), n]
    if together and len(ends) > 1 and n - ends[-2] == 1:
        del ends[-2]
    for batch in np.split(order, ends[:-1]):
        # Sorted, a memory map is read forwards.
        yield np.sort(batch)


def _values(
    X: Matrix, rows: Int[np.ndarray, "B"], mean: Float[np.ndarray, "D"], scale: Float[np.ndarray, "D"]
) -> torch.Tensor:
    return torch.from_numpy((X[rows].astype(np.float32) - mean) / scale)


def _forward(
    layers: Sequence[nn.Module] | nn.Sequential, values: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """As the network itself, but dropout draws from ``generator``; torch's takes only the global one."""
    for layer in layers:
        if isinstance(layer, nn.Dropout):
            keep = torch.rand(values.shape, generator=generator) >= layer.p
            values = values * keep / (1 - layer.p)
        else:
            values = layer(values)
    return values


def network_scores(
    network: nn.Sequential, X: Matrix, mean: Float[np.ndarray, "D"], scale: Float[np.ndarray, "D"]
) -> Float[np.ndarray, "N K"]:
    """Logits of a finished network, float32 throughout."""
    blocks = []
    with torch.inference_mode():
        for start in range(0, len(X), SCORED_TOGETHER):
            some = np.arange(start, min(start + SCORED_TOGETHER, len(X)))
            blocks.append(network(_values(X, some, mean, scale)).numpy())
    return np.concatenate(blocks)
