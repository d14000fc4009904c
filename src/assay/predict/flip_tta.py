"""Flip TTA: where a model is unsure of an image, its prediction for the mirror image counts too.

Where it is sure the mirror would change nothing, so nearly all the gain of predicting every image twice costs
only a few more predictions.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from assay.types import Probs

FLIP_TTA_BELOW = 0.9
"""Images whose most probable class is less probable are predicted twice; see benchmarks/LOG.md."""

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a probability of 0, whose logarithm does not exist."""


def flip_tta(plain: Probs, mirrored: Callable[[Int[np.ndarray, "A"]], Probs], below: float) -> Probs:
    """The geometric mean of both predictions where the first is unsure; ``plain`` elsewhere.

    Both count the same, so calibrating each with one temperature and a bias for each class is the same as
    calibrating their mean.

    Parameters
    ----------
    plain : P(class) (N, K) of images as they are
    mirrored : P(class) (A, K) of the mirrors of the images at some rows; not called if none is unsure
    below : probability of the most probable class under which an image is unsure; 0 for no TTA
    """
    unsure = np.flatnonzero(plain.max(axis=1) < below)
    if not len(unsure):
        return plain
    probs = plain.copy()
    both = np.sqrt(np.maximum(plain[unsure], TINY) * np.maximum(mirrored(unsure), TINY))
    probs[unsure] = both / both.sum(axis=1, keepdims=True)
    return probs
