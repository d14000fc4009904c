"""Squares of bytes or augmented numbers to what a network takes."""

from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from assay.data.resize import inverse_temperature, reach
from assay.embed.backbone import TimmBackbone
from assay.train.crops import Crops


@runtime_checkable
class ToPixels(Protocol):
    """Images (B, s, s, 3) from 0 to 255, or windows of them, to normalised pixels (B, 3, S, S)."""

    def __call__(  # noqa: D102  # the class says it
        self, images: Float[np.ndarray, "B S S 3"], crops: Crops | None = None
    ) -> torch.Tensor: ...


def to_pixels(backbone: TimmBackbone) -> ToPixels:
    """How ``backbone`` sees images of any side: enlarged or shrunk as ``to_square`` does, normalised.

    Unlike that it does not round to bytes in between; half a shade is nothing beside augmentation.
    """
    mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
    factor, offset, sharp = 1 / (255 * std), mean / std, backbone.interpolation == "sharp"
    bounds: tuple[Any, Any] = -offset, 255 * factor - offset
    if len({*zip(backbone.mean, backbone.std, strict=True)}) == 1:
        # One number for all channels takes a tenth of the time.
        bounds = float(bounds[0][0]), float(bounds[1][0])

    def convert(images: Float[np.ndarray, "B S S 3"], crops: Crops | None = None) -> torch.Tensor:
        # Normalised before most are enlarged, which is the same: what resizes weighs pixels by one in all.
        pixels = torch.from_numpy(images) * factor - offset
        if crops is not None or pixels.shape[1] != backbone.size:
            pixels = resized(pixels, backbone.size, crops, sharp=sharp)
        # In the order of memory that networks want.
        return pixels.clamp_(*bounds).permute(0, 3, 1, 2)

    return convert


def resized(
    pixels: Float[torch.Tensor, "B s s 3"], size: int, crops: Crops | None, *, sharp: bool
) -> Float[torch.Tensor, "B S S 3"]:
    """Images, or windows of them, at ``size``, by products of matrices: a quarter of torch's own time."""
    side = pixels.shape[1]
    share = inverse_temperature(size / side) if sharp else 0.0
    down, right = 2 * (bicubic(side, size),)
    if crops is not None:
        down, right = map(torch.from_numpy, crops.matrices(side, size))
    enlarged = _product(down, pixels, right)
    if share == 0:
        return enlarged
    soft = _product(softened(down, size / side), pixels, softened(right, size / side))
    return (1 + share) * enlarged - share * soft


def _product(
    down: torch.Tensor, pixels: Float[torch.Tensor, "B s s 3"], right: torch.Tensor
) -> Float[torch.Tensor, "B S S 3"]:
    """One matrix, or one for each image, for columns and for rows."""
    n, side, size = len(pixels), pixels.shape[1], down.shape[-2]
    wide = (right @ pixels.transpose(1, 2).reshape(n, side, side * 3)).view(n, size, side, 3)
    return (down @ wide.transpose(1, 2).reshape(n, side, size * 3)).view(n, size, size, 3)


@cache
def bicubic(side: int, size: int) -> Float[torch.Tensor, "S s"]:
    """What resizes a column of ``side`` pixels to ``size``.

    With antialias: without it torch's bicubic has another curve than Pillow's, and shrinking aliases.
    """
    columns = torch.eye(side)[None, None]
    enlarged = functional.interpolate(columns, (size, side), mode="bicubic", antialias=True)
    return enlarged[0, 0].contiguous()


def softened(enlarging: torch.Tensor, factor: float) -> torch.Tensor:
    """Matrices (…, S, s) that also take the mean of each pixel's surroundings; the border continues."""
    far = reach(factor)
    whole = int(far)
    weights = torch.tensor([far - whole, *[1.0] * (2 * whole + 1), far - whole]) / (2 * far + 1)
    columns = enlarging.reshape(-1, *enlarging.shape[-2:]).transpose(1, 2)
    wide = functional.pad(columns, (whole + 1, whole + 1), mode="replicate")
    return (wide.unfold(2, len(weights), 1) @ weights).transpose(1, 2).reshape(enlarging.shape)
