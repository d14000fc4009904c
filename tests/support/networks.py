"""Small networks of timm with random weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import timm
import torch

from assay.embed.weights import Weights
from assay.train.heads import MLPHead, make_head

SIZE = 64


def random_weights(name: str, origin: str = "file") -> Weights:
    """Weights for a small network of timm, batch statistics included, the same each time."""
    noise = torch.Generator().manual_seed(0)
    tensors = {}
    for key, tensor in timm.create_model(name, pretrained=False).state_dict().items():
        values = torch.randn(tensor.shape, generator=noise)
        if tensor.dtype == torch.int64:
            tensors[key] = tensor
        elif key.endswith("running_var"):
            tensors[key] = values.abs() + 0.5
        elif tensor.ndim > 1:
            tensors[key] = values / tensor[0].numel() ** 0.5
        else:
            tensors[key] = 1 + values / 10 if key.endswith("weight") else values / 10
    return Weights(tensors, "0" * 64, origin)


def few_steps(seed: int) -> MLPHead:
    """The head as it is, after a few steps."""
    return make_head(seed).set_params(min_steps=60)


@contextmanager
def quick_probe() -> Iterator[None]:
    """Inside, fine-tuning begins with a head that took a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.train.finetune.make_head", few_steps)
        yield


def normalised(number: int = 2, size: int = SIZE) -> torch.Tensor:
    """Random images (N, 3, S, S) between -1 and 1."""
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
