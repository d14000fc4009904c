"""What a saved model says, where its features were computed in less exact numbers than it computes in."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from assay._types import Backbone, Rows
from assay.data.dataset import Dataset
from assay.data.squares import read_squares
from assay.embed.backbone import TimmBackbone
from assay.recipes.assay import Learned

AT_ONCE = 256
"""Images that are held decoded at a time."""


def says_exactly(
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
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        found = read_squares(dataset, some, exact.size, exact.interpolation, workers=workers)
        # What cannot be read any more is answered for as it was.
        probs[np.searchsorted(rows, found.rows)] = learned.head.probabilities(exact.embed(found.images))

    def says(asked: Rows) -> np.ndarray:
        places = np.searchsorted(rows, asked)
        if not np.array_equal(rows.take(places, mode="clip"), asked):
            raise ValueError("expected rows of the images that were looked at exactly")
        return probs[places]

    return replace(learned, says=says)
