"""Pixels as a Backbone: images for networks that learn from nothing, cached and sealed as features are."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from assay.types import Batch


@dataclass(frozen=True)
class PixelBackbone:
    """The values 0 … 255 of an image, row by row, red, green and blue beside each other.

    ``features.reshape(-1, size, size, 3)`` is the image again; float16, in which the cache keeps them,
    holds every whole number up to 2048.
    """

    size: int = 32

    @property
    def name(self) -> str:
        """``pixels``."""
        return "pixels"

    @property
    def interpolation(self) -> str:
        """``bicubic``."""
        return "bicubic"

    @property
    def width(self) -> int:
        """Three numbers for each pixel."""
        return self.size * self.size * 3

    @property
    def digest(self) -> str:
        """Over what changes the features."""
        return hashlib.sha256(f"pixels-1-{self.size}".encode()).hexdigest()

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Pixels of a batch, float32."""
        return images.reshape(len(images), self.width).astype(np.float32)
