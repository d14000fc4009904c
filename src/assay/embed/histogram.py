"""Colour histograms as a Backbone: the notebook's baseline features."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from assay._types import Batch


@dataclass(frozen=True)
class HistogramBackbone:
    """Share of pixels in each of ``bins`` equal ranges of red, of green and of blue."""

    size: int = 32
    bins: int = 5
    """Five bins lie between the notebook's six edges, 0 to 255."""

    @property
    def name(self) -> str:
        """``histogram``."""
        return "histogram"

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
        edges = np.linspace(0, 255, self.bins + 1)[1:-1]
        table = np.searchsorted(edges, np.arange(256), side="right")
        binned = table[images].reshape(len(images), -1, 3)
        shares = [(binned == i).mean(axis=1) for i in range(self.bins)]
        return np.stack(shares, axis=2).reshape(len(images), self.width).astype(np.float32)
