"""Blocks that learn quickly on a processor: convolution, batch norm and rectifier as one function.

A batch norm that keeps its statistics is a factor and a sum for each channel, so it is folded into the
filters at each step and costs no pass of its own over the maps: the gradients of its numbers come from those
of the folded filters. What is left is multiplication, done as it is quickest here:

- 1 × 1 convolutions as products of matrices, which take half as long as oneDNN's convolutions and their
  gradients on a processor with AMX;
- the gradients of depthwise convolutions as ``learn.depthwise`` has them.

What it saves is in benchmarks/LOG.md.
"""

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import get_same_padding, pad_same
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn
from torch.nn import functional

from assay.train.depthwise import Pair, QuickDepthwise, as_multiplied, depthwise_gradients, is_depthwise

RECTIFIERS: dict[type[nn.Module], tuple[float, float]] = {
    nn.ReLU: (0.0, float("inf")),
    nn.ReLU6: (0.0, 6.0),
}
"""Between what they keep their maps; other activations run by themselves."""


def use_fast_kernels(network: nn.Module) -> None:
    """Let inverted residual blocks of ``network`` learn quickly, and other 5 × 5 depthwise layers; in place.

    They hold the same layers, and where they do not learn they run as before.
    """
    inside = set[nn.Module]()
    for module in network.modules():
        if type(module) is InvertedResidual and _is_plain(module):
            module.__class__ = QuickResidual
            inside.update(module.modules())
    for layer in network.modules():
        if type(layer) is nn.Conv2d and layer not in inside and _is_wide(layer):
            layer.__class__ = QuickDepthwise


def _is_wide(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (5, 5) and is_depthwise(layer)


def _is_plain(block: Any) -> bool:
    """Whether the block's layers are those that ``QuickResidual`` multiplies."""
    convolutions = block.conv_pw, block.conv_dw, block.conv_pwl
    return (
        block.conv_s2d is None
        and all(map(_is_plain_convolution, convolutions))
        and all(map(_is_plain_norm, (block.bn1, block.bn2, block.bn3)))
        and all(map(_is_flat, (block.conv_pw, block.conv_pwl)))
        and is_depthwise(block.conv_dw)
    )


def _is_plain_convolution(layer: Any) -> bool:
    return type(layer) in (nn.Conv2d, Conv2dSame) and layer.bias is None


def _is_plain_norm(layer: Any) -> bool:
    if type(layer) is not BatchNormAct2d or type(layer.drop) is not nn.Identity:
        return False
    return layer.affine and layer.track_running_stats


def _is_flat(layer: nn.Conv2d) -> bool:
    told = layer.kernel_size, layer.stride, layer.padding, layer.groups
    return told == ((1, 1), (1, 1), (0, 0), 1)


class QuickResidual(InvertedResidual):
    """Timm's block, whose batch norms keep their statistics while it learns."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W); under autocast in its dtype."""
        me: Any = self
        if not self.training or me.bn1.training or maps.device.type != "cpu":
            plain: torch.Tensor = super().forward(maps)  # type: ignore[no-untyped-call]  # timm's
            return plain
        maps = as_multiplied(maps)
        seen = me.se(me.aa(_normed(_normed(maps, me.conv_pw, me.bn1), me.conv_dw, me.bn2)))
        found = _normed(seen.to(maps.dtype), me.conv_pwl, me.bn3)
        return me.drop_path(found) + maps if me.has_skip else found


@dataclass(frozen=True)
class _Corrected:
    """What does not learn of a convolution and the norm after it."""

    flat: bool
    """True for a 1 x 1 convolution over all channels, False for a depthwise one."""
    stride: Pair
    padding: Pair
    mean: torch.Tensor
    """(C,)"""
    inverse_std: torch.Tensor
    """(C,) 1 / sqrt(variance + eps)."""
    bounds: tuple[float, float] | None
    """Of the rectifier; None if there is none."""


def _normed(maps: torch.Tensor, convolution: Any, norm: Any) -> torch.Tensor:
    """Maps after both layers and the norm's activation."""
    maps, padding = _padded(maps, convolution)
    inverse_std, bounds = torch.rsqrt(norm.running_var + norm.eps), RECTIFIERS.get(type(norm.act))
    corrected = _Corrected(
        convolution.groups == 1, convolution.stride, padding, norm.running_mean, inverse_std, bounds
    )
    apply: Any = _Normed.apply
    found: torch.Tensor = apply(maps, convolution.weight, norm.weight, norm.bias, corrected)
    return found if bounds else norm.act(found)


def _padded(maps: torch.Tensor, convolution: Any) -> tuple[torch.Tensor, Pair]:
    """The maps, padded where TensorFlow pads one side by more than the other, and what is left to pad."""
    if not isinstance(convolution, Conv2dSame):
        return maps, convolution.padding
    sides = zip(maps.shape[2:], convolution.kernel_size, convolution.stride, strict=True)
    high, wide = (get_same_padding(*side, dilation=1) for side in sides)
    if high % 2 == wide % 2 == 0:
        return maps, (high // 2, wide // 2)
    return pad_same(maps, [*convolution.kernel_size], [*convolution.stride]), (0, 0)


class _Normed(torch.autograd.Function):
    """Maps (B, C, H, W), filters (D, C, 1, 1) or depthwise (C, 1, k, k), gain and offset of the norm (D,)."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        filters: torch.Tensor,
        gain: torch.Tensor,
        offset: torch.Tensor,
        corrected: _Corrected,
    ) -> torch.Tensor:
        scale = gain * corrected.inverse_std
        folded = (filters * scale[:, None, None, None]).to(maps.dtype)
        shift = (offset - corrected.mean * scale).to(maps.dtype)
        if corrected.flat:
            found = _flat_product(maps, folded.flatten(1).t(), shift)
        else:
            found = functional.conv2d(
                maps, folded, shift, corrected.stride, corrected.padding, groups=len(folded)
            )
        if corrected.bounds:
            found.clamp_(*corrected.bounds)
        ctx.corrected = corrected
        ctx.save_for_backward(maps, filters, folded, scale, found if corrected.bounds else None)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        maps, filters, folded, scale, found = ctx.saved_tensors
        corrected: _Corrected = ctx.corrected
        if corrected.bounds:
            gradient = torch.ops.aten.hardtanh_backward(gradient, found, *corrected.bounds)
        if corrected.flat:
            of_maps, of_folded = _flat_gradients(gradient, maps, folded, of_maps=ctx.needs_input_grad[0])
        else:
            of_maps, of_folded = depthwise_gradients(
                gradient, maps, folded, corrected.stride, corrected.padding
            )
        of_shift = gradient.sum((0, 2, 3), dtype=filters.dtype)
        of_folded = of_folded.to(filters.dtype)
        # scale = gain · inverse_std and shift = offset - mean · scale.
        of_gain = corrected.inverse_std * ((of_folded * filters).sum((1, 2, 3)) - corrected.mean * of_shift)
        return of_maps, of_folded * scale[:, None, None, None], of_gain, of_shift, None


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B · H · W, C): no copy of maps whose channels lie together."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _flat_product(
    maps: torch.Tensor, matrix: torch.Tensor, shift: torch.Tensor | None = None
) -> torch.Tensor:
    """Maps (B, C, H, W) times a matrix (C, D), the shift (D,) added: (B, D, H, W)."""
    shape = (len(maps), matrix.shape[1], *maps.shape[2:])
    # No view of the product: activations that work in place could not change it.
    found = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    if shift is None:
        torch.mm(_flat(maps), matrix, out=_flat(found))
    else:
        torch.addmm(shift, _flat(maps), matrix, out=_flat(found))
    return found


def _flat_gradients(
    gradient: torch.Tensor, maps: torch.Tensor, filters: torch.Tensor, *, of_maps: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Of the maps, if they are asked for, and of the filters (D, C, 1, 1)."""
    left, right = _flat(gradient), _flat(maps)
    # The smaller side first: twice as quick as the other way round.
    narrows = len(filters) <= filters.shape[1]
    of_filters = left.t() @ right if narrows else (right.t() @ left).t()
    found = _flat_product(gradient, filters.flatten(1)) if of_maps else None
    return found, of_filters.reshape(filters.shape)
