"""Pixels of any size -> the squares that networks take: the one resize there is.

Enlarging makes a picture soft, and networks were trained on pictures that were shrunk, so what tells one
texture from another arrives too weak. ``sharp`` gives an enlarged picture its edges back: on images of 32
pixels a frozen network is right of one in a hundred more (benchmarks/LOG.md).
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from assay.types import Pixels

Square = UInt8[np.ndarray, "S S 3"]
"""One RGB image of S by S pixels."""

FILTERS = {
    "sharp": Image.Resampling.BICUBIC,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
"""How an image may be resized: the name, and Pillow's filter for it."""


def to_square(pixels: Pixels, size: int, interpolation: str = "bicubic") -> Square:
    """The image at ``size`` by ``size`` pixels, the aspect ratio not kept.

    Parameters
    ----------
    interpolation : a key of ``FILTERS``; ``bicubic`` is Pillow's, which widens with the factor when it
        shrinks, so nothing is aliased; ``sharp`` is the same and, if that enlarges, adds to each pixel its
        difference from the mean of its surroundings; ``nearest`` makes no colour that was not there
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    square = Image.fromarray(pixels).resize((size, size), FILTERS[interpolation])
    factor = size / max(pixels.shape[:2])
    if interpolation == "sharp" and factor > 1:
        density = square.filter(ImageFilter.BoxBlur(reach(factor)))
        square = Image.blend(density, square, 1 + inverse_temperature(factor))
    return np.asarray(square)


def inverse_temperature(factor: float) -> float:
    """Strength of the sharpening where the side grows by ``factor``: 0 up to 1, 1 from 2 on."""
    return min(max(factor - 1, 0.0), 1.0)


def reach(factor: float) -> float:
    """Radius in pixels of the box whose mean is taken: it covers two pixels of the small picture."""
    return factor - 0.5


def in_words(interpolation: str) -> str:
    """What ``to_square`` does, for who runs a model elsewhere."""
    plain = "upright sRGB to size x size, Pillow's filter, aspect ratio not kept"
    if interpolation != "sharp":
        return plain
    return (
        f"{plain}; where f = size / longer side is above 1, plus min(f - 1, 1) times the difference from "
        "Pillow's BoxBlur(f - 0.5) of that"
    )
