"""What pixels go through before a network sees them."""

from collections.abc import Iterable
from dataclasses import dataclass

from assay.embed.packaged import PACKAGED


@dataclass(frozen=True)
class Preprocessing:
    """What a batch of uint8 images goes through: ``(pixel / 255 - mean) / std``, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""What the packaged Lite weights were trained with; ImageNet's mean and std cost them 4 points."""

FROM_ZERO_TO_ONE = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Pixels divided by 255, and no more."""


def preprocessing_of(name: str) -> Preprocessing:
    """Mean and std that the weights of timm's model ``name`` were trained with."""
    import timm

    if name in PACKAGED:
        return HALF
    config = timm.get_pretrained_cfg(name)
    return Preprocessing(_three(config.mean), _three(config.std)) if config else HALF


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
