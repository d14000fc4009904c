"""Colour histograms as a Backbone: the notebook's baseline features."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from assay.types import Batch


@dataclass(frozen=True)
class HistogramBackbone:
    """Share of pixels in each of ``bins`` equal ranges of red, of green and of blue.

    As ``np.histogram`` counts: a value on an edge belongs to the range above it, and 255 to the last.
    """

    size: int = 32
    bins: int = 5
    """Five lie between the notebook's six edges, 0, 51, … 255."""

    @property
    def name(self) -> str:
        """``histogram``."""
        return "histogram"

    @property
    def interpolation(self) -> str:
        """``bicubic``."""
        return "bicubic"

    @property
    def width(self) -> int:
        """``bins`` numbers for each channel."""
        return 3 * self.bins

    @property
    def digest(self) -> str:
        """Over what changes the features."""
        return hashlib.sha256(f"histogram-1-{self.size}-{self.bins}".encode()).hexdigest()

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Shares, float32; each channel's sum to 1."""
        inner = np.linspace(0, 255, self.bins + 1)[1:-1]
        bin_of = np.searchsorted(inner, np.arange(256), side="right").astype(np.uint8)
        binned = bin_of[images].reshape(len(images), self.size * self.size, 3)
        shares = [(binned == place).mean(axis=1) for place in range(self.bins)]
        return np.stack(shares, axis=2).reshape(len(images), self.width).astype(np.float32)
