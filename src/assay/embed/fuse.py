"""Convolutions that rectify and pad while they multiply, on a processor: the same features, sooner.

A rectifier after a convolution reads and writes all maps once more, and TensorFlow's padding, which adds a
row below and to the right, copies them all. oneDNN does both on the way, through the operator that torch's
compiler calls; here no compiler is needed. It is no public part of torch: what cannot be run, or gives other
features, stays as it was.
"""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import nn
from torch.nn import functional

RECTIFIERS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""oneDNN's names of what may follow a convolution."""

NOTHING: tuple[str, list[float]] = ("none", [])

SAME = 0.01
"""How far features may be from what they were, as a share of the largest."""


def fuse(network: nn.Module, probe: torch.Tensor) -> nn.Module:
    """A copy of a folded network that gives the same features sooner; the network itself where there is none.

    Neighbours in a module need not run one after the other in a network that we do not know, so both are
    asked about ``probe``.

    Parameters
    ----------
    probe : (B, 3, S, S) on a processor, in the network's dtype and layout
    """
    fused = deepcopy(network)
    for module in list(fused.modules()):
        _fuse_children(module)
    if not any(isinstance(module, Fused) for module in fused.modules()):
        return network
    with torch.inference_mode():
        wanted = network(probe)
        try:
            distance = (fused(probe) - wanted).abs().max()
        except (AttributeError, RuntimeError):  # no such operator, or not for this dtype or processor
            return network
    return fused if bool(distance <= SAME * wanted.abs().max()) else network


def _fuse_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (name, convolution), (after, follows) in pairwise([*children, ("", nn.Identity())]):
        if type(convolution) not in (nn.Conv2d, Conv2dSame):
            continue
        rectifier = RECTIFIERS.get(type(follows))
        if rectifier:
            setattr(module, after, nn.Identity())
        if rectifier or type(convolution) is Conv2dSame:
            setattr(module, name, Fused(convolution, *(rectifier or NOTHING)))


class Fused(nn.Module):
    """A convolution, padded as it was, and what follows it."""

    def __init__(self, convolution: Any, follows: str, bounds: list[float]) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.padding, self.groups = list(convolution.padding), convolution.groups
        self.same = isinstance(convolution, Conv2dSame)
        self.follows, self.bounds = follows, bounds

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W)."""
        weight, padding = self._as_tensorflow(maps) if self.same else (self.weight, self.padding)
        found: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, weight, self.bias, padding, self.stride, self.dilation, self.groups,
            self.follows, self.bounds, "",
        )  # fmt: skip  # the operator's ten arguments in two rows
        return found

    def _as_tensorflow(self, maps: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """Filters and a padding that is the same on both sides, for what TensorFlow pads by one more after
        than before: filters with a row and a column of zeros before them.
        """
        before, after = zip(*map(self._reach, maps.shape[2:], (0, 1)), strict=True)
        (top, left), (bottom, right) = before, after
        return functional.pad(self.weight, (right - left, 0, bottom - top, 0)), [bottom, right]

    def _reach(self, side: int, axis: int) -> tuple[int, int]:
        """How many pixels are added before and after."""
        added = get_same_padding(side, self.weight.shape[2 + axis], self.stride[axis], self.dilation[axis])
        return added // 2, added - added // 2
