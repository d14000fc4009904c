"""Squares of image files: what networks see, made of bytes in one step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from assay.data.dataset import Dataset, Skipped
from assay.data.images import decode
from assay.data.limits import USUAL, Limits
from assay.data.resize import to_square


class TargetSize(NamedTuple):
    """What squares are made of images."""

    size: int
    """Their side in pixels."""
    interpolation: str = "bicubic"
    """A key of ``data.resize.FILTERS``."""


@dataclass(frozen=True)
class DecodedImage:
    """Of one image file."""

    squares: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    """In each form that was asked for; of one side in each."""
    flags: tuple[str, ...] = ()
    """Remarks: see ``data.images.FLAGS``."""


@dataclass(frozen=True)
class DecodeOptions:
    """What is to be made of image files, and which may be used."""

    forms: Sequence[TargetSize]
    """The first decides how large a JPEG is decoded; the others are made of the same pixels."""
    limits: Limits = USUAL
    accept_truncated: bool = False

    @staticmethod
    def of(dataset: Dataset, *forms: TargetSize) -> "DecodeOptions":
        """As the images of a dataset may be used."""
        return DecodeOptions(forms, dataset.limits, dataset.accept_truncated)


Make = Callable[[bytes, DecodeOptions], DecodedImage | Skipped]
"""What makes squares of an image file, or says why it cannot."""


def make_squares(data: bytes, asked: DecodeOptions) -> DecodedImage | Skipped:
    """The first picture of an image file in each form; or why there is none, as ``decode`` says it."""
    image = decode(
        data, at_least=asked.forms[0].size, limits=asked.limits, accept_truncated=asked.accept_truncated
    )
    if isinstance(image, Skipped):
        return image
    return DecodedImage(tuple(to_square(image.pixels, *form) for form in asked.forms), image.flags)
