"""Tasks on the few drawn images of ``small_runs``, without the labels of their holdout."""

from pathlib import Path

import numpy as np
from small_runs import SmallData

from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.notebook.systems import Task
from assay.pipeline.options import RunOptions
from assay.types import UNKNOWN

HELD = 40
"""The trusted images that are held out: the first ones."""


def small_task(data: SmallData, cache: Path, **settings: object) -> Task:
    """All images of ``data``, the first trusted ones held out; ``settings`` are fields of Task."""
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    dataset = read_dataset(data.images, read)
    held = np.zeros(len(dataset), dtype=bool)
    held[np.flatnonzero(dataset.trusted != UNKNOWN)[:HELD]] = True
    options = RunOptions(read=read, cache=cache, workers=1, dtype="float32")
    return Task(dataset.without(np.flatnonzero(held)), held, options, dataset.noisy, **settings)


def squares_of(data: SmallData) -> np.ndarray:
    """The images as they are drawn, (N, 32, 32, 3)."""
    from PIL import Image

    rows = range(len(data.truth))
    return np.stack([np.asarray(Image.open(data.images / f"{row}.png")) for row in rows])
