"""Trunks: which outputs of a network are its features.

A trunk maps normalised images (B, 3, S, S) to features (B, D), float32. What it runs is plain modules
one after the other wherever that is known to be the network, so that an exporter can follow it and
layers that no feature needs are neither run nor saved.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from assay.errors import UsageError

IN_A_ROW = ("conv_stem", "bn1", "blocks")
"""The parts of timm's EfficientNets and MobileNets up to the last stage, in the order in which they run."""


class Levels(nn.Module):
    """The mean over positions of the outputs of a network's last few stages, side by side.

    The stages before the last know of shapes and textures that the last layers have traded for
    ImageNet's classes: on the course data they raise a head's accuracy by more than a point over the
    network's own pooled features, with fewer numbers. A network without stages gives its pooled features.
    """

    def __init__(self, network: nn.Module, levels: int) -> None:
        super().__init__()
        self.network = network
        self.levels = levels
        self.in_a_row = _runs_in_a_row(network)
        stages = getattr(network, "blocks", None) or getattr(network, "stages", None)
        self.stages = list(stages)[-levels:] if isinstance(stages, nn.Sequential) else []
        self.places = (1, 2) if _ends_in_channels(network) else (2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised images to (B, D) float32 features."""
        found = self._row(images) if self.in_a_row else self._hooked(images)
        return torch.cat(found, dim=1)

    def onwards(self, maps: torch.Tensor, stages: int) -> torch.Tensor:
        """Features from the maps that the last ``stages`` stages of a network in a row begin with."""
        network: Any = self.network
        return torch.cat(self._ends(maps, list(network.blocks)[-stages:]), dim=1)

    def _row(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Stage by stage, up to the last: the layers after it are not run."""
        network: Any = self.network
        return self._ends(network.bn1(network.conv_stem(images)), network.blocks)

    def _ends(self, maps: torch.Tensor, stages: Iterable[nn.Module]) -> list[torch.Tensor]:
        found = []
        for stage in stages:
            maps = stage(maps)
            found.append(maps)
        return [_pooled(output, self.places) for output in found[-self.levels :]]

    def _hooked(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The whole network as its own code runs it, listened to where its stages end."""
        found: list[torch.Tensor] = []
        hooks = [
            stage.register_forward_hook(lambda _, __, out: found.append(_pooled(out, self.places)))
            for stage in self.stages
        ]
        try:
            last: torch.Tensor = self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return found or [last.float()]


class LastMap(nn.Module):
    """A network's last map of features as it is, flattened in the order (C, H, W).

    For heads that look at places too; many numbers, so that small images suit it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised images to (B, C · H · W) float32 features.

        Raises
        ------
        UsageError : the network ends in tokens, not in a map
        """
        network: Any = self.network
        found: torch.Tensor = network.forward_features(images)
        if found.ndim != 4:
            raise UsageError(
                f"features 'map': expected a network that ends in a map (B, C, H, W), got "
                f"{type(network).__name__}, which ends in {tuple(found.shape)}; choose another backbone, "
                "or the features 'stages'"
            )
        if _ends_in_channels(network):
            found = found.permute(0, 3, 1, 2)
        return found.float().flatten(1)


def _runs_in_a_row(network: nn.Module) -> bool:
    from timm.models.efficientnet import EfficientNet
    from timm.models.mobilenetv3 import MobileNetV3

    return isinstance(network, EfficientNet | MobileNetV3)


def _ends_in_channels(network: nn.Module) -> bool:
    """Whether its maps are (B, H, W, C)."""
    return getattr(network, "output_fmt", "NCHW") == "NHWC"


def _pooled(output: torch.Tensor, places: tuple[int, int]) -> torch.Tensor:
    """The mean over ``places``, height and width, of maps, or over the tokens of (B, T, C)."""
    return output.float().mean(dim=places if output.ndim == 4 else 1)


def make_trunk(network: nn.Module, features: str, levels: int) -> nn.Module:
    """What gives those features, one of ``backbone.FEATURES``, in evaluation mode."""
    trunk = LastMap(network) if features == "map" else Levels(network, levels)
    return trunk.eval()


def needed_tensors(trunk: nn.Module) -> dict[str, torch.Tensor]:
    """Those of a trunk's network, under timm's names, without layers that it never runs."""
    network: Any = trunk.network
    tensors: dict[str, torch.Tensor] = network.state_dict()
    if not getattr(trunk, "in_a_row", False):
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name.split(".")[0] in IN_A_ROW}
