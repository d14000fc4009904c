"""Student: a pretrained network that learns, with a head on the outputs of its last stages.

The last stages learn, and their batch norms use the statistics of each batch: on the course data that is
worth three points over ImageNet's statistics. What comes before them, edges and textures, stays as it is,
takes no gradient and runs folded, in the dtype that is fastest here, which saves a third of the time and
costs nothing that could be measured (benchmarks/LOG.md). When the student is asked, its statistics are those
of images as they are at that size: ``recalibrate``.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from assay.embed.backbone import LEVELS
from assay.embed.network import fold_batch_norms
from assay.embed.speed import Plan, prepare
from assay.embed.trunk import make_trunk, needed_tensors
from assay.learn.layers import Layers

LEARNING = 4
"""Stages that learn, the last ones, in networks that are known to run in a row; others learn as a whole."""

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


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
        parts = tuple(part.detach().cpu().numpy().copy() for part in self.weights)
        return Layers(self.mean.cpu().numpy(), self.scale.cpu().numpy(), parts, self.activation)


class Front(nn.Module):
    """The stages that do not learn: pixels to the maps that those take which do."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = nn.Sequential(*list(network.blocks)[:-LEARNING])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W)."""
        maps: torch.Tensor = self.blocks(self.bn1(self.conv_stem(pixels)))
        return maps


class Student(nn.Module):
    """Normalised pixels (B, 3, S, S) to logits (B, K)."""

    quick_front: nn.Module | None
    """The front as ``quicken`` made it."""

    def __init__(self, network: nn.Module, head: Layers) -> None:
        super().__init__()
        self.trunk = make_trunk(network, "stages", LEVELS)
        self.quick_front = None
        front = self.front()
        fixed = set[nn.Parameter](front.parameters() if front else ())
        needed = needed_tensors(self.trunk)
        # Layers that no feature comes from would have no gradient.
        for name, number in network.named_parameters():
            number.requires_grad_(name in needed and number not in fixed)
        self.head = Head(head)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format alone

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self._features(pixels))
        return logits

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        trunk: Any = self.trunk
        if self.quick_front is None:
            features: torch.Tensor = trunk(pixels)
            return features
        where = next(self.quick_front.parameters())
        with torch.no_grad():
            maps = self.quick_front(pixels.to(where.device, where.dtype)).to(pixels.device, torch.float32)
        features = trunk.onwards(maps, LEARNING)
        return features

    def train(self, mode: bool = True) -> "Student":
        """As any module's, but that the front's statistics stay as they are."""
        super().train(mode)
        for module in (self.front(), self.quick_front):
            if module is not None:
                module.eval()
        return self

    def front(self) -> Front | None:
        """The network's own stages that do not learn; None where all learn."""
        return Front(self.network) if getattr(self.trunk, "in_a_row", False) else None

    def quicken(self, plan: Plan, size: int) -> None:
        """From now on run the front folded, as ``plan`` has it, with the statistics that it has now."""
        front = self.front()
        if front is not None:
            self.quick_front = prepare(fold_batch_norms(front.eval(), size), plan)

    def norms(self) -> list[nn.BatchNorm2d]:
        """The batch norms that learn."""
        found = [module for module in self.trunk.modules() if isinstance(module, nn.BatchNorm2d)]
        return [norm for norm in found if norm.weight.requires_grad]

    @property
    def network(self) -> Any:
        """The network without the head."""
        return self.trunk.network

    def learning(self) -> list[nn.Parameter]:
        """What learns, in an order that does not change."""
        return [number for number in self.parameters() if number.requires_grad]


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


def recalibrate(network: nn.Module, norms: Sequence[nn.BatchNorm2d], batches: Iterable[torch.Tensor]) -> None:
    """Give batch norms the statistics of these images, whatever they had; the network then evaluates.

    An average of numbers has statistics that no step had (Izmailov et al. 2018, arXiv:1803.05407).
    """
    network.eval()
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    with torch.no_grad():
        for pixels in batches:
            network(pixels)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
