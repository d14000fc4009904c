"""The backbone without weights: for tests, the demo and machines without torch."""

import hashlib
from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        if self.size % self.blocks:
            raise UsageError(
                f"tiny backbone: expected a size that is a multiple of {self.blocks}, got {self.size}"
            )

    @property
    def name(self) -> str:
        """``tiny``."""
        return "tiny"

    @property
    def interpolation(self) -> str:
        """``bicubic``."""
        return "bicubic"

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
