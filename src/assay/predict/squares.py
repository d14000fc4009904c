"""A few images of a dataset as a model would see them: what an exported graph is tried on."""

import numpy as np
from jaxtyping import Int

from assay._types import Batch
from assay.data.dataset import Dataset
from assay.data.images import Decoded, Square, decode, to_square

MOST = 128
"""Images taken; each is decoded and goes through the network twice more."""


def sample_squares(
    dataset: Dataset, rows: Int[np.ndarray, "M"], size: int, interpolation: str, most: int = MOST
) -> Batch:
    """Up to ``most`` usable images of ``rows``, spread evenly over them; none if none is usable."""
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
    found = [_square(dataset, int(row), size, interpolation) for row in rows[places]]
    squares = [square for square in found if square is not None]
    return np.stack(squares) if squares else np.zeros((0, size, size, 3), dtype=np.uint8)


def _square(dataset: Dataset, row: int, size: int, interpolation: str) -> Square | None:
    data = dataset.skipped.get(row) or dataset.source.read(row)
    image = decode(data, at_least=size) if isinstance(data, bytes) else data
    return to_square(image.pixels, size, interpolation) if isinstance(image, Decoded) else None
