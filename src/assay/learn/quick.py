"""Depthwise convolutions that learn quickly on a processor.

oneDNN has quick kernels for the gradient of 3 × 3 depthwise filters that go step by step, and none for 5 × 5
ones: those take a sixth of a step, and in bfloat16 four to seven times as long. A 5 × 5 gradient is four
3 × 3 ones, one at each corner of the filter, of the same maps seen through shifted windows; so it is put
together here. Filters that skip places are quick in float32 only.
"""

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn
from torch.nn import functional

CORNERS = (0, 2)
"""Where a 3 × 3 filter begins inside a 5 × 5 one; the middle belongs to all four."""


def hasten(network: nn.Module) -> None:
    """Give the depthwise convolutions of ``network`` a quick gradient, in place.

    They are the same layers, and where they do not learn they run as before.
    """
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d) or layer.dilation != (1, 1):
            continue
        if layer.groups == layer.in_channels == layer.out_channels:
            if type(layer) is Conv2dSame:
                layer.__class__ = SameDepthwise
            elif type(layer) is nn.Conv2d and layer.kernel_size == (5, 5) and layer.padding == (2, 2):
                layer.__class__ = Depthwise


class Depthwise(nn.Conv2d):
    """A 5 × 5 depthwise convolution whose filters have their gradient quickly."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W)."""
        return _learning(maps, self, 2) if _slow(self, maps) else super().forward(maps)


class SameDepthwise(Conv2dSame):
    """A depthwise convolution that is padded as TensorFlow pads; it learns in its filters' own dtype."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W)."""
        maps = maps.to(self.weight.dtype) if self.training else maps
        if _slow(self, maps) and self.kernel_size == (5, 5):
            return _learning(pad_same(maps, [5, 5], [*self.stride]), self, 0)
        with torch.autocast(maps.device.type, enabled=False):
            plain: torch.Tensor = super().forward(maps)  # type: ignore[no-untyped-call]  # timm's
        return plain


def _slow(layer: nn.Module, maps: torch.Tensor) -> bool:
    """Whether its gradient is wanted, where torch's own is slow."""
    return layer.training and maps.device.type == "cpu"


def _learning(maps: torch.Tensor, layer: nn.Conv2d, padding: int) -> torch.Tensor:
    weight: torch.Tensor = layer.weight.to(maps.dtype)
    apply: Any = _FromCorners.apply
    with torch.autocast(maps.device.type, enabled=False):
        found: torch.Tensor = apply(maps, weight, layer.stride, padding)
    return found if layer.bias is None else found + layer.bias.to(maps.dtype)[:, None, None]


class _FromCorners(torch.autograd.Function):
    """Maps (B, C, H, W), filters (C, 1, 5, 5), stride and padding to maps."""

    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, weight: torch.Tensor, stride: Any, padding: int
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(maps, weight, stride=stride, padding=padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        maps, weight = ctx.saved_tensors
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = _gradient(gradient, maps, weight, ctx.stride, ctx.padding, of_weight=False)
        if ctx.needs_input_grad[1]:
            reach = ctx.padding
            padded = functional.pad(maps, (reach, reach, reach, reach)) if reach else maps
            of_weight = _from_corners(gradient, padded, weight, ctx.stride)
        return of_maps, of_weight, None, None


def _from_corners(
    gradient: torch.Tensor, padded: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int]
) -> torch.Tensor:
    """The gradient of the filters, (C, 1, 5, 5)."""
    found, small = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
    height, width = ((n - 1) * step + 3 for n, step in zip(gradient.shape[2:], stride, strict=True))
    for top in CORNERS:
        for left in CORNERS:
            window = padded[:, :, top : top + height, left : left + width]
            corner = _gradient(gradient, window, small, stride, 0, of_weight=True)
            found[:, :, top : top + 3, left : left + 3] = corner
    return found


def _gradient(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: int,
    *,
    of_weight: bool,
) -> torch.Tensor:
    """As torch has it, of a depthwise convolution: of its filters, or else of its maps."""
    found = torch.ops.aten.convolution_backward(
        gradient, maps, weight, None, stride, [padding] * 2, [1, 1], False, [0, 0], len(weight),
        [not of_weight, of_weight, False],
    )  # fmt: skip  # the operator's thirteen arguments in two rows
    wanted: torch.Tensor = found[1 if of_weight else 0]
    return wanted
