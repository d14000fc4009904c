"""Predictions in float32 from the image files, exactly as the saved model gives them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset
from assay.data.loader import ImageBatch, load
from assay.data.resize import TargetSize
from assay.embed.backbone import TimmBackbone
from assay.pipeline.learn import Fitted
from assay.predict.layers import Layers
from assay.types import Backbone, Probs, Rows

See = Callable[[TargetSize, Rows], Iterator[ImageBatch]]
"""The images at some rows, resized: ``load`` of a data set."""


def exactly(
    see: See, rows: Rows, backbone: Backbone, head: Layers, *, mirrored: bool = False
) -> Iterator[tuple[Rows, Probs]]:
    """Rows and P(class), as the saved model predicts them from the files, a batch at a time.

    Parameters
    ----------
    backbone : one that computes in float32
    mirrored : predict the mirrors of the images
    """
    for batch in see(TargetSize(backbone.size, backbone.interpolation), rows):
        images = batch.images[0][:, :, ::-1] if mirrored else batch.images[0]
        yield batch.decoded, head.probabilities(backbone.embed(np.ascontiguousarray(images)))


def predicts_exactly(
    fitted: Fitted, dataset: Dataset, backbone: Backbone, rows: Int[np.ndarray, "H"], *, workers: int = 2
) -> Fitted:
    """The same, with float32 predictions for ``rows``: features may be bfloat16, and the saved model is not.

    Parameters
    ----------
    backbone : the one that computed the features
    rows : images that are evaluated, ascending; the result predicts no others
    """
    exact = backbone.exact() if isinstance(backbone, TimmBackbone) else backbone
    if exact is backbone:
        return fitted
    probs = fitted.probs_of(rows).copy()

    def see(target: TargetSize, some: Rows) -> Iterator[ImageBatch]:
        return load(dataset, [target], some, workers=workers)

    for some, said in exactly(see, rows, exact, fitted.head):  # images that are skipped keep what they had
        probs[np.searchsorted(rows, some)] = said

    def probs_of(asked: Rows) -> np.ndarray:
        places = np.searchsorted(rows, asked)
        if not np.array_equal(rows.take(places, mode="clip"), asked):
            raise ValueError("expected rows that were predicted exactly")
        return probs[places]

    return replace(fitted, probs_of=probs_of)
