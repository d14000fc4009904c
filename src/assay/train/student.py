"""Student: a pretrained network that learns, with a head on the outputs of its last stages.

The last stages learn. What comes before them, edges and textures, stays as it is, takes no gradient and runs
folded, which saves a third of the time and costs nothing that could be measured (benchmarks/LOG.md). Batch
norms keep the statistics that they came with, and learn only their scale and shift: measuring those of the
images at hand gains nothing, and so an image's answer depends on no other image, nor on the size of a batch.
All multiply in the dtype that is fastest here while they learn; what learns answers in float32.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from timm.layers.drop import DropPath
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from assay.embed.backbone import LEVELS
from assay.embed.device import Plan, prepare
from assay.embed.fast_kernels import use_fast_training
from assay.embed.trunk import fold_batch_norms, make_trunk, needed_tensors
from assay.predict.layers import Layers

LEARNING = 4
"""Stages that learn, the last ones, in networks that are known to run in a row; others learn as a whole."""

TOGETHER = 8
"""Images that go through the front at a time on a processor: what it makes of them stays in its cache."""


class Head(nn.Module):
    """``Layers`` that learn, of an ``MLPHead``: with GELU between them."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(layers.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(layers.scale.copy()))
        self.weights = nn.ParameterList(torch.from_numpy(np.array(part)) for part in layers.weights)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) features to (B, K) logits."""
        values = (features - self.mean) / self.scale
        for layer in range(0, len(self.weights), 2):
            values = functional.gelu(values) if layer else values
            values = values @ self.weights[layer] + self.weights[layer + 1]
        return values

    def layers(self) -> Layers:
        """What it has learned, as arrays."""
        parts = tuple(part.detach().cpu().numpy().copy() for part in self.weights)
        return Layers(self.mean.cpu().numpy(), self.scale.cpu().numpy(), parts)


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
    learns_in: torch.dtype
    """What is multiplied while it learns, and what a batch norm adds; all that is kept is float32."""

    def __init__(self, network: nn.Module, head: Layers) -> None:
        super().__init__()
        self.trunk = make_trunk(network, "stages", LEVELS)
        self.quick_front, self.learns_in = None, torch.float32
        front = self.front()
        # What does not learn is made quick by its own rules, for which it has to be what it was.
        for part in list(self.network.blocks)[-LEARNING:] if front else [network]:
            use_fast_training(part)
        corrected = set[nn.Parameter](front.parameters() if front else ())
        needed = needed_tensors(self.trunk)
        # Layers that no feature comes from would have no gradient.
        for name, number in network.named_parameters():
            number.requires_grad_(name in needed and number not in corrected)
        self.head = Head(head)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format alone

    @property
    def device(self) -> torch.device:
        """Where it is, and its logits."""
        return self.head.mean.device

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits, of pixels on any device."""
        pixels = pixels.to(self.device, non_blocking=True)
        quick = self.training and self.learns_in != torch.float32
        with torch.autocast(pixels.device.type, self.learns_in, enabled=quick):
            features = self._features(pixels)
        logits: torch.Tensor = self.head(features.float())
        return logits

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        trunk: Any = self.trunk
        if self.quick_front is None:
            features: torch.Tensor = trunk(pixels)
            return features
        where = next(self.quick_front.parameters())
        with torch.no_grad():
            pixels = pixels.to(where.device, where.dtype)
            few = torch.split(pixels, TOGETHER if where.device.type == "cpu" else len(pixels))
            maps = torch.cat([self.quick_front(part) for part in few]).to(pixels.device, torch.float32)
        features = trunk.onwards(maps, LEARNING)
        return features

    def train(self, mode: bool = True) -> "Student":
        """As any module's, but batch norms and the quick front stay as they are, and nothing drops out."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm | _DropoutNd | DropPath | Front):
                module.eval()
        return self

    def front(self) -> Front | None:
        """The network's own stages that do not learn; None where all learn."""
        return Front(self.network) if getattr(self.trunk, "in_a_row", False) else None

    def quicken(self, plan: Plan, size: int) -> None:
        """From now on learn in the plan's dtype, and run the front folded."""
        self.learns_in = plan.torch_dtype
        front = self.front()
        if front is not None:
            self.quick_front = prepare(fold_batch_norms(deepcopy(front).cpu().eval(), size), plan, size)

    def as_quick_as(self, other: "Student") -> None:
        """Share what ``quicken`` made of the other: it holds no state that a thread could disturb."""
        self.quick_front, self.learns_in = other.quick_front, other.learns_in

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
