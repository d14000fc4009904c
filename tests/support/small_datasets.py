"""Datasets of a few files in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pictures import saved
from PIL import Image

from assay.data.dataset import Dataset, Skipped
from assay.types import UNKNOWN


@dataclass(frozen=True)
class InMemory:
    """A source of these bytes, which notes what was read."""

    files: Sequence[bytes | Skipped]
    reads: list[int] = field(default_factory=list)

    def read(self, index: int) -> bytes | Skipped:
        self.reads.append(index)
        return self.files[index]


def dataset_of(files: Sequence[bytes | Skipped], skipped: dict[int, Skipped] | None = None) -> Dataset:
    """A dataset without labels of these files."""
    unknown = np.full(len(files), UNKNOWN)
    names = tuple(f"{row}.png" for row in range(len(files)))
    return Dataset(names, InMemory(files), ("a",), unknown, unknown, skipped=skipped or {})


def noise(seed: int, height: int = 40, width: int = 40) -> Image.Image:
    """A picture like no other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def drawn(number: int, **options: int) -> list[bytes]:
    """Different PNG files."""
    return [saved(noise(seed, **options), compress_level=1) for seed in range(number)]
