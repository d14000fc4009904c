"""Fast CPU kernels for embedding and for fine-tuning: the same numbers in less time.

Embedding: oneDNN applies the activation and TensorFlow's one-sided padding inside the convolution, where
plain torch passes over all maps once more for each. Fine-tuning: the frozen batch norm of an inverted
residual block is folded into its filters at each step, 1 x 1 convolutions become matrix products, and the
gradients of depthwise filters take the form that oneDNN is fast at. It saves 20 to 30 % of a step
(benchmarks/LOG.md). The parts of torch and timm that this uses are not public, so each fast form is compared
with the plain one first: what cannot run, or differs, stays plain.
"""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import get_same_padding, pad_same
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn
from torch.nn import functional

TOLERANCE = 0.01
"""Largest root mean square difference between fast and plain results, as a share of the largest number."""

HALF = 3
"""Columns of a five wide filter whose gradient is taken at a time; the middle one belongs to both halves."""

Pair = tuple[int, int]
"""Down and right."""


def fuse_convolutions(network: nn.Module, probe: torch.Tensor) -> nn.Module:
    """A copy of ``network`` for inference on a CPU with fused convolution, padding and ReLU.

    The network itself, in evaluation mode with its batch norms folded, comes back where nothing can be fused
    or the outputs for ``probe``, images (B, 3, S, S) in its dtype and layout, would change.
    """
    # oneDNN's names and bounds of what may follow a convolution.
    activations = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
    fused = deepcopy(network)
    for module in list(fused.modules()):
        children = list(module.named_children())
        for (name, convolution), (after, follows) in pairwise([*children, ("", nn.Identity())]):
            if type(convolution) not in (nn.Conv2d, Conv2dSame):
                continue
            activation = activations.get(type(follows))
            if activation:
                setattr(module, after, nn.Identity())
            if activation or type(convolution) is Conv2dSame:
                setattr(module, name, FusedConvolution(convolution, *(activation or ("none", []))))
    if not any(isinstance(module, FusedConvolution) for module in fused.modules()):
        return network
    # Neighbours in a module need not run one after the other in an unknown network: compare outputs.
    with torch.inference_mode():
        return fused if _agree(lambda: [network(probe)], lambda: [fused(probe)]) else network


def use_fast_training(network: nn.Module) -> None:
    """Make the inverted residual blocks in ``network`` train with fast kernels, in place.

    They keep their layers and tensor names; in evaluation mode they run as before.
    """
    for block in network.modules():
        if type(block) is InvertedResidual and _is_supported(block) and _trains_alike(block):
            block.__class__ = FastInvertedResidual


def _agree(plain: Any, fast: Any) -> bool:
    """Whether two functions return nearly the same tensors; False where the fast one cannot run."""
    try:
        found = fast()
    except (AttributeError, RuntimeError):  # no such operator, or not for this dtype or CPU
        return False
    return all(
        # The mean, not the largest difference: an activation at its kink may open in one and not the other.
        bool((one.float() - other.float()).square().mean().sqrt() <= TOLERANCE * one.abs().max())
        for one, other in zip(plain(), found, strict=True)
    )


def _trains_alike(block: Any) -> bool:
    """Whether outputs and gradients of the fast form are those of the block, on random maps."""
    maps = torch.rand(2, block.conv_pw.in_channels, 7, 8, generator=torch.Generator().manual_seed(0))
    maps = maps.to(block.conv_pw.weight.dtype)

    def results(kind: type[nn.Module]) -> Any:
        one = deepcopy(block).eval().requires_grad_()
        # The block's own flag alone: dropout and the norms' statistics stay as in evaluation.
        one.__class__, one.training = kind, True
        seen = maps.clone().requires_grad_()
        output = one(seen)
        return [output, *torch.autograd.grad(output.square().sum(), [seen, *one.parameters()])]

    return _agree(lambda: results(InvertedResidual), lambda: results(FastInvertedResidual))


# ---- inference ----


class FusedConvolution(nn.Module):
    """A convolution with its padding and the activation after it in one operator of oneDNN."""

    def __init__(self, convolution: Any, activation: str, bounds: list[float]) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.padding, self.groups = list(convolution.padding), convolution.groups
        self.same = isinstance(convolution, Conv2dSame)
        self.activation, self.bounds = activation, bounds

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to maps."""
        weight, padding = self.weight, self.padding
        if self.same:
            added = [
                get_same_padding(side, weight.shape[2 + axis], self.stride[axis], self.dilation[axis])
                for axis, side in enumerate(maps.shape[2:])
            ]
            # TensorFlow pads by one more after than before, oneDNN pads both sides alike: zeros before the
            # filter's rows and columns make up for it.
            high, wide = (total % 2 for total in added)
            weight = functional.pad(weight, (wide, 0, high, 0))
            padding = [total - total // 2 for total in added]
        output: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, weight, self.bias, padding, self.stride, self.dilation, self.groups,
            self.activation, self.bounds, "",
        )  # fmt: skip  # the operator's ten arguments in two rows
        return output


# ---- training ----


def _is_supported(block: Any) -> bool:
    """Whether the block's layers are those that ``FastInvertedResidual`` computes."""
    convolutions = (block.conv_pw, block.conv_dw, block.conv_pwl)
    depthwise = block.conv_dw
    return (
        block.conv_s2d is None
        and all(type(layer) in (nn.Conv2d, Conv2dSame) and layer.bias is None for layer in convolutions)
        and all(
            type(norm) is BatchNormAct2d
            and type(norm.drop) is nn.Identity
            and norm.affine
            and norm.track_running_stats
            for norm in (block.bn1, block.bn2, block.bn3)
        )
        and all(
            (layer.kernel_size, layer.stride, layer.padding, layer.groups) == ((1, 1), (1, 1), (0, 0), 1)
            for layer in (block.conv_pw, block.conv_pwl)
        )
        and depthwise.groups == depthwise.in_channels == depthwise.out_channels > 1
        and depthwise.stride in ((1, 1), (2, 2))
        and depthwise.dilation == (1, 1)
        and isinstance(depthwise.padding, tuple)
        and depthwise.padding_mode == "zeros"
    )


class FastInvertedResidual(InvertedResidual):
    """timm's block, trained on a CPU while its batch norms keep their statistics."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to maps, under autocast in its dtype."""
        me: Any = self
        if not self.training or me.bn1.training or maps.device.type != "cpu":
            plain: torch.Tensor = super().forward(maps)  # type: ignore[no-untyped-call]  # timm's
            return plain
        if torch.is_autocast_enabled("cpu"):
            maps = maps.to(torch.get_autocast_dtype("cpu"))
        middle = _normed(_normed(maps, me.conv_pw, me.bn1), me.conv_dw, me.bn2)
        output = _normed(me.se(me.aa(middle)).to(maps.dtype), me.conv_pwl, me.bn3)
        return me.drop_path(output) + maps if me.has_skip else output


def _normed(maps: torch.Tensor, convolution: Any, norm: Any) -> torch.Tensor:
    """Maps after a convolution without bias, the batch norm after it and the norm's activation."""
    padding = convolution.padding
    if isinstance(convolution, Conv2dSame):
        sides = zip(maps.shape[2:], convolution.kernel_size, convolution.stride, strict=True)
        high, wide = (get_same_padding(*side, dilation=1) for side in sides)
        padding = high // 2, wide // 2
        if high % 2 or wide % 2:  # one side needs more than the other
            maps = pad_same(maps, [*convolution.kernel_size], [*convolution.stride])
            padding = 0, 0
    bounds = {nn.ReLU: (0.0, float("inf")), nn.ReLU6: (0.0, 6.0)}.get(type(norm.act))
    inverse_std = torch.rsqrt(norm.running_var + norm.eps)
    apply: Any = _ConvolutionNorm.apply
    output: torch.Tensor = apply(
        maps, convolution.weight, norm.weight, norm.bias,
        norm.running_mean, inverse_std, convolution.groups, convolution.stride, padding, bounds,
    )  # fmt: skip  # what has a gradient, then what has none
    return output if bounds else norm.act(output)


class _ConvolutionNorm(torch.autograd.Function):
    """Maps (B, C, H, W), filters (D, C, 1, 1) or depthwise (C, 1, k, k), gain and offset (D,) of the norm.

    A norm with fixed statistics is a factor and a sum per channel: ``scale = gain · inverse_std`` goes into
    the filters and ``shift = offset - mean · scale`` is their bias, so it costs no pass over the maps.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  # autograd passes them by position
        ctx: Any,
        maps: torch.Tensor,
        filters: torch.Tensor,
        gain: torch.Tensor,
        offset: torch.Tensor,
        mean: torch.Tensor,
        inverse_std: torch.Tensor,
        groups: int,
        stride: Pair,
        padding: Pair,
        bounds: tuple[float, float] | None,
    ) -> torch.Tensor:
        scale = gain * inverse_std
        folded = (filters * scale[:, None, None, None]).to(maps.dtype)
        shift = (offset - mean * scale).to(maps.dtype)
        if groups == 1:
            output = _pointwise(maps, folded.flatten(1).t(), shift)
        else:
            output = functional.conv2d(maps, folded, shift, stride, padding, groups=len(folded))
        if bounds:
            output.clamp_(*bounds)
        ctx.settings = groups, stride, padding, bounds
        ctx.save_for_backward(maps, filters, folded, scale, mean, inverse_std, output if bounds else None)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        maps, filters, folded, scale, mean, inverse_std, output = ctx.saved_tensors
        groups, stride, padding, bounds = ctx.settings
        if bounds:
            gradient = torch.ops.aten.hardtanh_backward(gradient, output, *bounds)
        if groups == 1:
            of_maps, of_folded = _pointwise_gradients(gradient, maps, folded, of_maps=ctx.needs_input_grad[0])
        else:
            of_maps, of_folded = _depthwise_gradients(gradient, maps, folded, stride, padding)
        of_shift = gradient.sum((0, 2, 3), dtype=filters.dtype)
        of_folded = of_folded.to(filters.dtype)
        of_gain = inverse_std * ((of_folded * filters).sum((1, 2, 3)) - mean * of_shift)
        return of_maps, of_folded * scale[:, None, None, None], of_gain, of_shift, *[None] * 6


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B · H · W, C): a view where the layout is channels-last."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _pointwise(maps: torch.Tensor, matrix: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
    """A 1 x 1 convolution (B, C, H, W) to (B, D, H, W) as a matrix product: half the time with AMX."""
    shape = (len(maps), matrix.shape[1], *maps.shape[2:])
    # Not a view of the product: in-place activations could not change it.
    output = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    if shift is None:
        torch.mm(_flat(maps), matrix, out=_flat(output))
    else:
        torch.addmm(shift, _flat(maps), matrix, out=_flat(output))
    return output


def _pointwise_gradients(
    gradient: torch.Tensor, maps: torch.Tensor, filters: torch.Tensor, *, of_maps: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Gradients of the maps, if asked for, and of the filters (D, C, 1, 1)."""
    left, right = _flat(gradient), _flat(maps)
    # The smaller side first: twice as fast as the other order.
    narrows = len(filters) <= filters.shape[1]
    of_filters = left.t() @ right if narrows else (right.t() @ left).t()
    return _pointwise(gradient, filters.flatten(1)) if of_maps else None, of_filters.reshape(filters.shape)


def _depthwise_gradients(
    gradient: torch.Tensor, maps: torch.Tensor, filters: torch.Tensor, stride: Pair, padding: Pair
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of maps (B, C, H, W) and depthwise filters (C, 1, k, k), stride 1 or 2 in both directions."""
    if stride == (1, 1):
        # A convolution with the filters turned around: half the time of torch's own.
        reach = [side - 1 - zeros for side, zeros in zip(filters.shape[2:], padding, strict=True)]
        of_maps = functional.conv2d(gradient, filters.flip(2, 3), padding=reach, groups=len(filters))
    else:
        # With a stride torch's own is thirty times slower in bfloat16 than in float32.
        exact = torch.promote_types(gradient.dtype, torch.float32)
        parts = gradient.to(exact), maps.to(exact), filters.to(exact)
        of_maps = _torch_gradient(*parts, stride, padding, of_filters=False).to(gradient.dtype)
    if filters.shape[3] != 2 * HALF - 1:
        return of_maps, _torch_gradient(gradient, maps, filters, stride, padding, of_filters=True)
    # oneDNN is fast up to three columns and ten to sixty times slower for five: two halves of three.
    high, wide = padding
    padded = functional.pad(maps, (wide, wide, high, high)) if high or wide else maps
    # A filter three wide fits at more places than one five wide; the gradient there is zero.
    more = (padded.shape[3] - HALF) // stride[1] + 1 - gradient.shape[3]
    of_filters = torch.empty_like(filters)
    for first in (0, HALF - 1):
        before = first // stride[1]
        shifted = functional.pad(gradient, (before, more - before))
        columns = slice(first, first + HALF)
        half = filters[..., columns].contiguous()
        of_filters[..., columns] = _torch_gradient(shifted, padded, half, stride, (0, 0), of_filters=True)
    return of_maps, of_filters


def _torch_gradient(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    filters: torch.Tensor,
    stride: Pair,
    padding: Pair,
    *,
    of_filters: bool,
) -> torch.Tensor:
    """Torch's own gradient of a depthwise convolution's filters, or else of its maps."""
    found = torch.ops.aten.convolution_backward(
        gradient, maps, filters, None, [*stride], [*padding], [1, 1], False, [0, 0], len(filters),
        [not of_filters, of_filters, False],
    )  # fmt: skip  # the operator's thirteen arguments in two rows
    wanted: torch.Tensor = found[1 if of_filters else 0]
    return wanted
