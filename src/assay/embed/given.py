"""Features that the user computed: nothing is embedded, the rest of a run is the same."""

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from assay.data.dataset import Dataset
from assay.data.files import Skipped
from assay.embed.images import Features


@dataclass(frozen=True)
class GivenFeatures:
    """Stands where others have a network: a row of features is its own embedding."""

    width: int
    """D."""
    name: ClassVar[str] = "features"
    size: ClassVar[int] = 0
    interpolation: ClassVar[str] = "bicubic"

    @property
    def digest(self) -> str:
        """Over the length: the numbers themselves are among the contents of a run."""
        return hashlib.sha256(f"features-1-{self.width}".encode()).hexdigest()

    def embed(self, images: Any) -> np.ndarray:
        """The same rows as float32."""
        return np.asarray(images, dtype=np.float32)


def given_features(dataset: Dataset) -> Features:
    """The features of a data set that came with them; the content of an item is the digest of its row."""
    assert dataset.vectors is not None
    contents, skipped = list[bytes | None](), dict[int, Skipped]()
    for row in range(len(dataset)):
        found = dataset.read(row)
        if isinstance(found, Skipped):
            skipped[row] = found
        contents.append(None if isinstance(found, Skipped) else hashlib.sha256(found).digest())
    return Features((dataset.vectors,), tuple(contents), skipped, {}, computed=0)
