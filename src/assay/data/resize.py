"""Pixels of any size -> the squares that networks take: the only resize.

Enlarging softens an image, and pretrained networks expect shrunk, sharp ones. ``sharp`` restores the edges of
enlarged images: on images of 32 pixels a frozen network gains one point of accuracy (benchmarks/LOG.md).
"""

from typing import NamedTuple

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
"""Name of an interpolation -> Pillow's filter for it."""


class TargetSize(NamedTuple):
    """The square that an image is resized to."""

    size: int
    """Its side in pixels."""
    interpolation: str = "bicubic"
    """A key of ``FILTERS``."""


def to_square(pixels: Pixels, size: int, interpolation: str = "bicubic") -> Square:
    """The image resized to ``size`` by ``size`` pixels; the aspect ratio is not kept.

    Parameters
    ----------
    interpolation : a key of ``FILTERS``; ``bicubic`` is Pillow's, which does not alias when it shrinks;
        ``sharp`` is bicubic that also sharpens enlarged images: it adds to each pixel its difference from the
        mean around it; ``nearest`` adds no new colours
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
    """Strength of the sharpening of an image enlarged by ``factor``: 0 up to factor 1, 1 from factor 2."""
    return min(max(factor - 1, 0.0), 1.0)


def reach(factor: float) -> float:
    """Radius in pixels of the box that is averaged: it covers two pixels of the small image."""
    return factor - 0.5


def in_words(interpolation: str) -> str:
    """From an image file to the square, in Pillow's terms, for people who run a model elsewhere."""
    name = FILTERS[interpolation].name
    plain = (
        "draft(None, (size, size)), which reduces JPEG alone; upright by EXIF, sRGB, transparent pixels over "
        f"white; the whole image by resize((size, size), {name}), aspect ratio not kept"
    )
    if interpolation != "sharp":
        return f"{name.lower()}: {plain}"
    return (
        f"{name.lower()}, sharpened: {plain}; then, where f = size / longer side before it is above 1, "
        "Image.blend(resized.filter(BoxBlur(f - 0.5)), resized, 1 + min(f - 1, 1))"
    )
