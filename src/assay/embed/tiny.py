"""Backbones without weights: block statistics for tests, the demo and machines without torch; histograms."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from assay.errors import UsageError
from assay.types import Batch


@dataclass(frozen=True)
class TinyBackbone:
    """Mean and spread of each channel in each of some blocks: instant, and good enough for digits.

    It has learned nothing and knows nothing of objects: photos want a pretrained network.
    """

    size: int = 32
    blocks: int = 8
    """Blocks along each side; ``size`` must be a multiple of it."""
    name: ClassVar[str] = "tiny"
    interpolation: ClassVar[str] = "bicubic"

    def __post_init__(self) -> None:
        # Blocks of unequal size would mean different things.
        if self.size % self.blocks:
            raise UsageError(
                f"tiny backbone: expected a size that is a multiple of {self.blocks}, got {self.size}"
            )

    @property
    def width(self) -> int:
        """Mean and spread of each block and channel."""
        return self.blocks * self.blocks * 3 * 2

    @property
    def digest(self) -> str:
        """Over what changes the features."""
        return hashlib.sha256(f"tiny-1-{self.size}-{self.blocks}".encode()).hexdigest()

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Features of a batch, float32."""
        side = self.size // self.blocks
        grid = images.reshape(len(images), self.blocks, side, self.blocks, side, 3).astype(np.float32) / 255
        means, spreads = grid.mean(axis=(2, 4)), grid.std(axis=(2, 4))
        return np.concatenate([means, spreads], axis=-1).reshape(len(images), self.width)


@dataclass(frozen=True)
class HistogramBackbone:
    """Share of pixels in each of ``bins`` equal ranges of red, of green and of blue: the notebook's baseline.

    As ``np.histogram`` counts: a value on an edge belongs to the range above it, and 255 to the last.
    """

    size: int = 32
    bins: int = 5
    """Five lie between the notebook's six edges, 0, 51, … 255."""
    name: ClassVar[str] = "histogram"
    interpolation: ClassVar[str] = "bicubic"

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
        # A table of 256 entries: np.histogram for each channel of each image is many times slower.
        bin_of = np.searchsorted(inner, np.arange(256), side="right").astype(np.uint8)
        binned = bin_of[images].reshape(len(images), self.size * self.size, 3)
        shares = [(binned == place).mean(axis=1) for place in range(self.bins)]
        return np.stack(shares, axis=2).reshape(len(images), self.width).astype(np.float32)
