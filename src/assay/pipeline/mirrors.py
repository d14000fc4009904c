"""Mirrors of a few images: where one view of each was embedded, a mirrored copy would not be found by it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset
from assay.data.loader import load
from assay.data.resize import TargetSize
from assay.pipeline.options import RunOptions, uses_flip_tta
from assay.types import Backbone, Matrix

AT_ONCE = 512
"""Images that are held in memory at their size."""


class Mirrored(NamedTuple):
    """Some images as their mirrors show them."""

    rows: Int[np.ndarray, "M"]
    """Ascending."""
    features: Matrix
    """(M, D) of their mirrors."""


Mirrors = Callable[[Int[np.ndarray, "_"]], Mirrored]
"""The mirrors of the images at some rows, those that can be read."""


def mirrors_for(dataset: Dataset, backbone: Backbone, options: RunOptions) -> Mirrors | None:
    """How a run finds mirrored copies of the images that judge it; None if its features show both views."""
    if uses_flip_tta(options.preset):
        return None
    return partial(_mirrored, dataset, backbone, options.workers)


def _mirrored(dataset: Dataset, backbone: Backbone, workers: int, rows: Int[np.ndarray, "R"]) -> Mirrored:
    used, features = [rows[:0]], [np.zeros((0, backbone.width), dtype=np.float32)]
    target = TargetSize(backbone.size, backbone.interpolation)
    for batch in load(dataset, [target], rows, batch_size=AT_ONCE, workers=workers):
        used.append(batch.decoded)
        features.append(backbone.embed(batch.images[0][:, :, ::-1]))
    return Mirrored(np.concatenate(used), np.concatenate(features))
