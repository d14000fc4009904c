"""Gradients of depthwise convolutions, as they are quickest on a processor.

oneDNN has quick kernels for the gradient of depthwise filters up to three wide, and takes ten times as long
for wider ones in float32, and sixty times in bfloat16. A filter five wide is therefore taken as its first
three and its last three columns. The gradient of the maps is a convolution too, with the filters turned
around, which takes half the time of what torch calls for it.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

Pair = tuple[int, int]
"""Down and right."""

HALF = 3
"""Columns whose gradient is taken at a time; the middle one of five belongs to both halves."""


def is_depthwise(layer: nn.Conv2d) -> bool:
    """Whether each channel has filters of its own, of a kind whose gradients are taken here."""
    channels = {layer.groups, layer.in_channels, layer.out_channels}
    steps = layer.stride in ((1, 1), (2, 2)) and layer.dilation == (1, 1)
    zeros = isinstance(layer.padding, tuple) and layer.padding_mode == "zeros"
    return len(channels) == 1 and layer.groups > 1 and steps and zeros


def as_multiplied(maps: torch.Tensor) -> torch.Tensor:
    """The maps in the dtype of autocast, where it is on."""
    kind = maps.device.type
    return maps.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else maps


class QuickDepthwise(nn.Conv2d):
    """A depthwise convolution on its own, outside the blocks that ``learn.quick`` knows."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W); under autocast in its dtype."""
        if not self.training or maps.device.type != "cpu":
            return super().forward(maps)
        maps, apply = as_multiplied(maps), cast(Any, _Depthwise.apply)
        found: torch.Tensor = apply(maps, self.weight.to(maps.dtype), self.stride, self.padding)
        return found if self.bias is None else found + self.bias.to(maps.dtype)[:, None, None]


class _Depthwise(torch.autograd.Function):
    """Maps (B, C, H, W) and filters (C, 1, k, k), stride and padding, to maps."""

    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, filters: torch.Tensor, stride: Pair, padding: Pair
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, filters)
        ctx.places = stride, padding
        return functional.conv2d(maps, filters, None, stride, padding, groups=len(filters))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return *depthwise_gradients(gradient, *ctx.saved_tensors, *ctx.places), None, None


def depthwise_gradients(
    gradient: torch.Tensor, maps: torch.Tensor, filters: torch.Tensor, stride: Pair, padding: Pair
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the maps (B, C, H, W), and of the filters (C, 1, k, k) that went over them.

    Parameters
    ----------
    gradient : of what the convolution gave, (B, C, H', W')
    stride : 1 or 2, the same in both directions
    padding : of zeros, at both sides
    """
    if stride == (1, 1):
        reach = [side - 1 - zeros for side, zeros in zip(filters.shape[2:], padding, strict=True)]
        turned = filters.flip(2, 3)
        of_maps = functional.conv2d(gradient, turned, padding=reach, groups=len(filters))
    else:
        # Where places are skipped, torch's own is slow in bfloat16: by thirty times.
        exact = torch.promote_types(gradient.dtype, torch.float32)
        parts = gradient.to(exact), maps.to(exact), filters.to(exact)
        of_maps = _gradient(*parts, stride, padding, of_filters=False).to(gradient.dtype)
    if filters.shape[3] != 2 * HALF - 1:
        return of_maps, _gradient(gradient, maps, filters, stride, padding, of_filters=True)
    return of_maps, _from_halves(gradient, maps, filters, stride, padding)


def _from_halves(
    gradient: torch.Tensor, maps: torch.Tensor, filters: torch.Tensor, stride: Pair, padding: Pair
) -> torch.Tensor:
    """Of filters five wide.

    A filter three wide fits at more places than one five wide; its gradient is nothing where that does not.
    """
    high, wide = padding
    padded = functional.pad(maps, (wide, wide, high, high)) if high or wide else maps
    places = (padded.shape[3] - HALF) // stride[1] + 1
    more, found = places - gradient.shape[3], torch.empty_like(filters)
    for first in (0, HALF - 1):
        before = first // stride[1]
        columns = slice(first, first + HALF)
        seen = functional.pad(gradient, (before, more - before))
        half = filters[..., columns].contiguous()
        found[..., columns] = _gradient(seen, padded, half, stride, (0, 0), of_filters=True)
    return found


def _gradient(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    filters: torch.Tensor,
    stride: Pair,
    padding: Pair,
    *,
    of_filters: bool,
) -> torch.Tensor:
    """As torch has it, of a depthwise convolution: of its filters, or else of its maps."""
    found = torch.ops.aten.convolution_backward(
        gradient, maps, filters, None, [*stride], [*padding], [1, 1], False, [0, 0], len(filters),
        [not of_filters, of_filters, False],
    )  # fmt: skip  # the operator's thirteen arguments in two rows
    wanted: torch.Tensor = found[1 if of_filters else 0]
    return wanted
