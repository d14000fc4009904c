"""Squares of bytes or augmented numbers to what a network takes."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from assay.data.resize import reach, sharpness
from assay.embed.backbone import TimmBackbone

ToPixels = Callable[[Float[np.ndarray, "B S S 3"]], torch.Tensor]
"""Images (B, s, s, 3) from 0 to 255 to normalised pixels (B, 3, S, S)."""


def to_pixels(backbone: TimmBackbone) -> ToPixels:
    """How ``backbone`` sees images of any side: enlarged or shrunk as ``to_square`` does, normalised.

    Unlike that it does not round to bytes in between; half a shade is nothing beside augmentation.
    """
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    factor, offset = 1 / (255 * std), mean / std

    def convert(images: Float[np.ndarray, "B S S 3"]) -> torch.Tensor:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        if pixels.shape[2] != backbone.size:
            pixels = resized(pixels, backbone.size, sharp=backbone.interpolation == "sharp")
        pixels = pixels.clamp_(0, 255).mul_(factor).sub_(offset)
        return pixels.contiguous(memory_format=torch.channels_last)

    return convert


def resized(pixels: torch.Tensor, size: int, *, sharp: bool) -> torch.Tensor:
    """Planes (B, C, s, s) at ``size``, by products of matrices, which take a quarter of torch's own time."""
    side = pixels.shape[2]
    resize, share = bicubic(side, size), sharpness(size / side) if sharp else 0.0
    enlarged = resize @ pixels @ resize.T
    if share == 0:
        return enlarged
    soft = softened(side, size)
    return (1 + share) * enlarged - share * (soft @ pixels @ soft.T)


@cache
def bicubic(side: int, size: int) -> Float[torch.Tensor, "S s"]:
    """What resizes a column of ``side`` pixels to ``size``.

    With antialias: without it torch's bicubic has another curve than Pillow's, and shrinking aliases.
    """
    columns = torch.eye(side)[None, None]
    enlarged = functional.interpolate(columns, (size, side), mode="bicubic", antialias=True)
    return enlarged[0, 0].contiguous()


@cache
def softened(side: int, size: int) -> Float[torch.Tensor, "S s"]:
    """What enlarges a column and takes the mean of each pixel's surroundings; the border continues."""
    far = reach(size / side)
    whole = int(far)
    weights = torch.tensor([far - whole, *[1.0] * (2 * whole + 1), far - whole]) / (2 * far + 1)
    enlarged = functional.pad(bicubic(side, size).T[None], (whole + 1, whole + 1), mode="replicate")[0]
    return (enlarged.unfold(1, len(weights), 1) @ weights).T.contiguous()
