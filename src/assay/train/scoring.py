"""Scoring: P(class) of every image as a student gives it, of images that are held as squares."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int

from assay.data.resize import to_square
from assay.embed.backbone import TimmBackbone
from assay.predict.layers import Layers
from assay.types import Batch, Matrix, Probs, Progress, silent

BLOCK = 512
"""Images that are enlarged and scored together."""


def features_of(
    backbone: TimmBackbone,
    squares: Batch,
    rows: Int[np.ndarray, "R"],
    *,
    workers: int = 2,
    progress: Progress = silent,
    stage: str = "ask",
) -> Matrix:
    """Features (R, D) of the images at ``rows``, in their order.

    Parameters
    ----------
    squares : (N, s, s, 3), of all images
    workers : threads that resize
    stage : what ``progress`` calls it
    """
    blocks = [*_blocks(backbone, squares, rows, workers, progress, stage)]
    return np.concatenate(blocks) if blocks else np.zeros((0, backbone.width), dtype=np.float32)


def _blocks(
    backbone: TimmBackbone,
    squares: Batch,
    rows: Int[np.ndarray, "R"],
    workers: int,
    progress: Progress,
    stage: str,
) -> Iterator[Matrix]:
    with ThreadPoolExecutor(max(workers, 1), "resize") as pool:
        for start in range(0, len(rows), BLOCK):
            some = squares[rows[start : start + BLOCK]]
            resized = list(
                pool.map(lambda image: to_square(image, backbone.size, backbone.interpolation), some)
            )
            yield backbone.embed(np.stack(resized))
            progress(stage, start + len(some), len(rows))


def score(
    backbone: TimmBackbone,
    head: Layers,
    squares: Batch,
    rows: Int[np.ndarray, "R"],
    *,
    workers: int = 2,
    progress: Progress = silent,
    stage: str = "ask",
) -> Probs:
    """P(class) (R, K) of the same, by a head on those features."""
    found = np.zeros((len(rows), head.n_classes))
    for place, features in enumerate(_blocks(backbone, squares, rows, workers, progress, stage)):
        found[place * BLOCK : place * BLOCK + len(features)] = head.probabilities(features)
    return found
