"""Student: a pretrained network in training, with a head on the outputs of its last stages; and its input.

The last stages are trained. Those before them, edges and textures, are frozen and run folded, which saves a
third of the time and costs nothing measurable (benchmarks/LOG.md). Batch norms keep the statistics that they
came with and train only scale and shift: new statistics gain nothing, and so an image's prediction depends on
no other image. In training products have the plan's dtype; the trained stages predict in float32.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from assay.data.resize import inverse_temperature, reach
from assay.embed.backbone import LEVELS, TimmBackbone
from assay.embed.device import Plan, prepare
from assay.embed.fast_kernels import use_fast_training
from assay.embed.trunk import fold_batch_norms, make_trunk, needed_tensors
from assay.predict.layers import Layers
from assay.train.augment import Crops

TRAINED_STAGES = 4
"""The last stages, in networks that are known to run in a row; others are trained as a whole."""

FRONT_BATCH = 8
"""Images that go through the frozen stages at a time on a CPU: their maps stay in its cache."""


class Head(nn.Module):
    """``Layers`` as parameters, with GELU between them."""

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
        """The parameters as arrays."""
        parts = tuple(part.detach().cpu().numpy().copy() for part in self.weights)
        return Layers(self.mean.cpu().numpy(), self.scale.cpu().numpy(), parts)


class Front(nn.Module):
    """The frozen stages: pixels to the maps that enter the trained ones."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = nn.Sequential(*list(network.blocks)[:-TRAINED_STAGES])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W)."""
        maps: torch.Tensor = self.blocks(self.bn1(self.conv_stem(pixels)))
        return maps


class Student(nn.Module):
    """Normalised pixels (B, 3, S, S) to logits (B, K)."""

    fast_front: nn.Module | None
    """The front, folded and fused for the plan of ``use_plan``."""
    train_dtype: torch.dtype
    """Of products in training; all that is kept is float32."""

    def __init__(self, network: nn.Module, head: Layers) -> None:
        super().__init__()
        self.trunk = make_trunk(network, "stages", LEVELS)
        self.fast_front, self.train_dtype = None, torch.float32
        front = self.front()
        # The frozen stages have fast kernels of their own, which expect timm's blocks.
        for part in list(self.network.blocks)[-TRAINED_STAGES:] if front else [network]:
            use_fast_training(part)
        frozen = set[nn.Parameter](front.parameters() if front else ())
        needed = needed_tensors(self.trunk)
        # Layers that no feature comes from would have no gradient.
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in needed and parameter not in frozen)
        self.head = Head(head)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format alone

    @property
    def device(self) -> torch.device:
        """Where it and its logits are."""
        return self.head.mean.device

    @property
    def network(self) -> Any:
        """The network without the head."""
        return self.trunk.network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits, of pixels on any device."""
        pixels = pixels.to(self.device, non_blocking=True)
        lower = self.training and self.train_dtype != torch.float32
        with torch.autocast(pixels.device.type, self.train_dtype, enabled=lower):
            trunk: Any = self.trunk
            if self.fast_front is None:
                features: torch.Tensor = trunk(pixels)
            else:
                where = next(self.fast_front.parameters())
                with torch.no_grad():
                    inputs = pixels.to(where.device, where.dtype)
                    few = torch.split(inputs, FRONT_BATCH if where.device.type == "cpu" else len(inputs))
                    maps = torch.cat([self.fast_front(part) for part in few]).to(torch.float32)
                features = trunk.onwards(maps, TRAINED_STAGES)
        logits: torch.Tensor = self.head(features.float())
        return logits

    def train(self, mode: bool = True) -> "Student":
        """As any module's, but batch norms, dropout and the front stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm | _DropoutNd | DropPath | Front):
                module.eval()
        return self

    def front(self) -> Front | None:
        """The network's frozen stages; None where all are trained."""
        return Front(self.network) if getattr(self.trunk, "in_a_row", False) else None

    def use_plan(self, plan: Plan, size: int) -> None:
        """Train in the plan's dtype from now on, the front folded for ``size`` pixels."""
        self.train_dtype = plan.torch_dtype
        front = self.front()
        if front is not None:
            self.fast_front = prepare(fold_batch_norms(deepcopy(front).cpu().eval(), size), plan, size)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters with a gradient, in an order that does not change."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def load(self, values: Sequence[torch.Tensor]) -> None:
        """Set the trained parameters."""
        with torch.no_grad():
            for own, new in zip(self.trained_parameters(), values, strict=True):
                own.copy_(new)

    def replicas(self, n: int) -> list["Student"]:
        """The student and n - 1 more that share its parameters, each with gradients of its own.

        Each runs in a thread of its own: two threads inside one step mostly wait (``embed.device``).
        """
        others = [deepcopy(self) for _ in range(n - 1)]
        for other in others:
            for mine, own in zip(self.parameters(), other.parameters(), strict=True):
                own.data = mine.data
        return [self, *others]


# ---- its input ----


def network_input(
    backbone: TimmBackbone, images: Float[np.ndarray, "B s s 3"], crops: Crops | None = None
) -> torch.Tensor:
    """Images (B, s, s, 3) from 0 to 255, or crops of them, as normalised pixels (B, 3, S, S).

    They are resized as ``to_square`` does but not rounded to bytes in between.
    """
    mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
    factor, offset = 1 / (255 * std), mean / std
    # Normalised before it is enlarged, which is the same, as resizing weighs pixels by one in all.
    pixels = torch.from_numpy(images) * factor - offset
    if crops is not None or pixels.shape[1] != backbone.size:
        pixels = _resized(pixels, backbone.size, crops, sharp=backbone.interpolation == "sharp")
    low, high = -offset, 255 * factor - offset
    if len({*zip(backbone.mean, backbone.std, strict=True)}) == 1:
        # One number for all channels takes a tenth of the time.
        pixels = pixels.clamp_(float(low[0]), float(high[0]))
    else:
        pixels = pixels.clamp_(low, high)
    return pixels.permute(0, 3, 1, 2)  # channels_last in memory, as networks want it


def _resized(
    pixels: Float[torch.Tensor, "B s s 3"], size: int, crops: Crops | None, *, sharp: bool
) -> Float[torch.Tensor, "B S S 3"]:
    """Images, or crops of them, at ``size`` by matrix products: a quarter of the time of torch's own."""
    n, side = pixels.shape[:2]
    share = inverse_temperature(size / side) if sharp else 0.0
    down, right = 2 * (bicubic(side, size),)  # (S, s)
    if crops is not None:
        down, right = map(torch.from_numpy, crops.matrices(side, size))  # (B, S, s)

    def product(down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        wide = (right @ pixels.transpose(1, 2).reshape(n, side, side * 3)).view(n, size, side, 3)
        return (down @ wide.transpose(1, 2).reshape(n, side, size * 3)).view(n, size, size, 3)

    plain = product(down, right)
    if share == 0:
        return plain
    soft = product(softened(down, size / side), softened(right, size / side))
    return (1 + share) * plain - share * soft


@cache
def bicubic(side: int, size: int) -> Float[torch.Tensor, "S s"]:
    """The matrix that resizes a column of ``side`` pixels to ``size``."""
    columns = torch.eye(side)[None, None]
    # Without antialias torch's bicubic has another curve than Pillow's, and shrinking aliases.
    enlarged = functional.interpolate(columns, (size, side), mode="bicubic", antialias=True)
    return enlarged[0, 0].contiguous()


def softened(matrices: torch.Tensor, factor: float) -> torch.Tensor:
    """Matrices (…, S, s) that also average each pixel with its neighbours; the border continues outside."""
    far = reach(factor)
    whole = int(far)
    weights = torch.tensor([far - whole, *[1.0] * (2 * whole + 1), far - whole]) / (2 * far + 1)
    columns = matrices.reshape(-1, *matrices.shape[-2:]).transpose(1, 2)
    wide = functional.pad(columns, (whole + 1, whole + 1), mode="replicate")
    return (wide.unfold(2, len(weights), 1) @ weights).transpose(1, 2).reshape(matrices.shape)
