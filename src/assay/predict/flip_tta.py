"""A second look: of an image that a model is unsure of, its mirror is asked about too.

Where a model is sure, the mirror would say the same. So nearly all that both looks at every image would gain
comes at the price of a few more images.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from assay.types import Probs

FLIP_TTA_BELOW = 0.9
"""An image whose likeliest class is less probable is looked at again; see benchmarks/LOG.md."""

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a probability of 0, whose logarithm there is not."""


def flip_tta(first: Probs, mirrored: Callable[[Int[np.ndarray, "A"]], Probs], below: float) -> Probs:
    """What the model says after a second look where it needs one; ``first`` where it does not.

    Both looks count the same, by the mean of their logarithms. So the looks may be calibrated, or what both
    say together: with one sharpness and a bias for each class that is the same.

    Parameters
    ----------
    first : P(class) (N, K) of images as they are
    mirrored : P(class) (A, K) of the mirrors of the images at some rows; not asked if none is needed
    below : probability of the likeliest class, from 0, which asks for no second look, to 1
    """
    again = np.flatnonzero(first.max(axis=1) < below)
    if not len(again):
        return first
    found = first.copy()
    both = np.sqrt(np.maximum(first[again], TINY) * np.maximum(mirrored(again), TINY))
    found[again] = both / both.sum(axis=1, keepdims=True)
    return found
