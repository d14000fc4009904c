"""What a saved model says of image files, where it was asked in less exact numbers, or about copies."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset
from assay.data.squares import Squares, read_squares
from assay.embed.backbone import TimmBackbone
from assay.pipeline.learn import Learned
from assay.predict.layers import Layers
from assay.types import Backbone, Probs, Rows

AT_ONCE = 256
"""Images that are held decoded at a time."""

See = Callable[[Rows, int, str], Squares]
"""Images at some rows, as squares of a size by an interpolation: ``read_squares`` of a dataset."""


def exactly(
    see: See, rows: Rows, backbone: Backbone, head: Layers, *, mirrored: bool = False
) -> Iterator[tuple[Rows, Probs]]:
    """Rows and P(class), as predicting from their files gives it, a part of the images at a time.

    Parameters
    ----------
    backbone : one that computes in float32
    mirrored : of the images' mirrors
    """
    for start in range(0, len(rows), AT_ONCE):
        found = see(rows[start : start + AT_ONCE], backbone.size, backbone.interpolation)
        images = found.images[:, :, ::-1] if mirrored else found.images
        yield found.rows, head.probabilities(backbone.embed(np.ascontiguousarray(images)))


def predicts_exactly(
    learned: Learned, dataset: Dataset, backbone: Backbone, rows: Int[np.ndarray, "H"], *, workers: int = 2
) -> Learned:
    """The same, but of ``rows`` it says what the saved model does: features in bfloat16 are quick to learn
    from, and what is saved computes in float32.

    Parameters
    ----------
    backbone : that computed the features
    rows : images that figures come from, ascending; of no others it can be asked any more
    """
    exact = backbone.exact() if isinstance(backbone, TimmBackbone) else backbone
    if exact is backbone:
        return learned
    probs = learned.says(rows).copy()
    for some, said in exactly(partial(read_squares, dataset, workers=workers), rows, exact, learned.head):
        # What cannot be used is answered for as it was.
        probs[np.searchsorted(rows, some)] = said

    def says(asked: Rows) -> np.ndarray:
        places = np.searchsorted(rows, asked)
        if not np.array_equal(rows.take(places, mode="clip"), asked):
            raise ValueError("expected rows of the images that were looked at exactly")
        return probs[places]

    return replace(learned, says=says)
