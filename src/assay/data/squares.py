"""Some images of a dataset, decoded, as squares in memory."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset, Skipped
from assay.data.forms import DecodeOptions, TargetSize, make_squares
from assay.data.images import Decoded, decode
from assay.data.resize import Square
from assay.types import Batch


@dataclass(frozen=True)
class Squares:
    """Images that could be used."""

    rows: Int[np.ndarray, "M"]
    """Ascending."""
    images: Batch
    """(M, S, S, 3)."""


def read_squares(
    dataset: Dataset, rows: Int[np.ndarray, "R"], size: int, interpolation: str, *, workers: int = 2
) -> Squares:
    """The usable images at ``rows``."""
    with ThreadPoolExecutor(max(workers, 1), "decode") as pool:
        found = list(pool.map(lambda row: _square(dataset, int(row), size, interpolation), rows))
    squares = [square for square in found if square is not None]
    used = np.array([square is not None for square in found], dtype=bool)
    images = np.stack(squares) if squares else np.zeros((0, size, size, 3), dtype=np.uint8)
    return Squares(rows[used], images)


def spread(rows: Int[np.ndarray, "R"], most: int) -> Int[np.ndarray, "M"]:
    """Up to ``most`` of the rows, evenly spaced."""
    chosen: np.ndarray = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return chosen


def _square(dataset: Dataset, row: int, size: int, interpolation: str) -> Square | None:
    data = dataset.read(row)
    made = (
        data
        if isinstance(data, Skipped)
        else make_squares(data, DecodeOptions.of(dataset, TargetSize(size, interpolation)))
    )
    return None if isinstance(made, Skipped) else made.squares[0]


def read_image(dataset: Dataset, row: int, at_least: int) -> Decoded | None:
    """The image at a row; None if it cannot be used. ``at_least``: see ``decode``."""
    data = dataset.read(row)
    if isinstance(data, Skipped):
        return None
    image = decode(data, at_least=at_least, limits=dataset.limits, accept_truncated=dataset.accept_truncated)
    return None if isinstance(image, Skipped) else image
