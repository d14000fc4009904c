"""Student: a pretrained network whose last stages learn, with the head on top.

The first stages know edges and textures from ImageNet; they stay as they are, which halves the time of a
step and keeps their activations out of memory. Batch norms keep ImageNet's statistics, so that an image
is seen alike whatever else is in its batch, and several copies of one student agree to the last bit.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from assay.embed.network import fold_batch_norms
from assay.embed.speed import DTYPES, Plan, prepare
from assay.learn.layers import Layers

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}

TRIED_AT = 64
"""Side of the images on which folded batch norms are compared with the others."""


class Head(nn.Module):
    """``Layers`` that learn."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.activation = layers.activation
        self.register_buffer("mean", torch.from_numpy(layers.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(layers.scale.copy()))
        self.weights = nn.ParameterList(torch.from_numpy(np.array(part)) for part in layers.weights)
        self.bend = ACTIVATIONS[layers.activation]()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) features to (B, K) logits."""
        values = (features - self.mean) / self.scale
        for layer in range(0, len(self.weights), 2):
            values = self.bend(values) if layer else values
            values = values @ self.weights[layer] + self.weights[layer + 1]
        return values

    def layers(self) -> Layers:
        """What it has learned, as arrays."""
        parts = tuple(part.detach().numpy().copy() for part in self.weights)
        return Layers(self.mean.numpy(), self.scale.numpy(), parts, self.activation)


class Student(nn.Module):
    """Normalised pixels (B, 3, S, S) to logits (B, K)."""

    def __init__(self, network: nn.Module, head: Layers, levels: int, plan: Plan) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        blocks: Any = network.blocks
        self.stages = nn.ModuleList(list(blocks)[-levels:]).requires_grad_(True)
        self.head = Head(head)
        self.dtype = DTYPES[plan.dtype]
        front = nn.Sequential(network.conv_stem, network.bn1, *list(blocks)[:-levels])  # type: ignore[arg-type]  # modules, which timm does not annotate
        # In a list, so that its copies of tensors do not count as the student's own.
        self.front = [prepare(fold_batch_norms(front, TRIED_AT), plan)]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits; gradients reach the last stages and the head."""
        with torch.no_grad():
            maps = self.front[0](pixels.to(self.dtype)).float().contiguous(memory_format=torch.channels_last)
        found = []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps.mean(dim=(2, 3)))
        logits: torch.Tensor = self.head(torch.cat(found, dim=1))
        return logits

    def learning(self) -> list[nn.Parameter]:
        """What learns, in an order that does not change."""
        return [*self.stages.parameters(), *self.head.parameters()]


def copies_of(student: Student, n: int) -> list[Student]:
    """``student`` and n - 1 more that share its numbers, each with gradients of its own.

    Each works in a thread of its own. Two threads inside each step would wait for each other most of the
    time; see ``embed.threads``.
    """
    others = [deepcopy(student) for _ in range(n - 1)]
    for other in others:
        for mine, own in zip(student.parameters(), other.parameters(), strict=True):
            own.data = mine.data
    return [student, *others]


def put(student: Student, numbers: Sequence[torch.Tensor]) -> None:
    """Give the student these numbers, in the order of ``learning``."""
    with torch.no_grad():
        for own, new in zip(student.learning(), numbers, strict=True):
            own.copy_(new)
