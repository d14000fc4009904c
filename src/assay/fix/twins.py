"""Near twins: two files that show one picture, re-saved, cropped a little or recoloured.

A held-out image whose twin was learned from measures memory, not skill. Found on features that are
computed anyway; whoever compares pixels misses re-saved copies.
"""

import numpy as np
from jaxtyping import Float, Int

from assay._types import Matrix

SIMILARITY = 0.9
"""Cosine of standardised features. On the course data the 25 pairs above it, of 2,000 held-out images, all
looked like one picture twice; below 0.85 they are pictures of one kind."""

BLOCK = 1024


def near_twins(
    features: Matrix,
    rows: Int[np.ndarray, "R"],
    among: Int[np.ndarray, "A"],
    similarity: float = SIMILARITY,
) -> Int[np.ndarray, "T"]:
    """Those of ``rows`` that have a twin in ``among``, in their order.

    Parameters
    ----------
    features : (N, D), may be a memory map
    similarity : cosine from which two images count as twins, (0, 1]
    """
    if not len(rows) or not len(among):
        return rows[:0]
    known = np.asarray(features[among], dtype=np.float32)
    mean, spread = known.mean(axis=0), known.std(axis=0)
    spread[spread < 1e-6] = 1.0
    own = _directions(np.asarray(features[rows], dtype=np.float32), mean, spread)
    closest = np.full(len(rows), -1.0, dtype=np.float32)
    for start in range(0, len(known), BLOCK):
        other = _directions(known[start : start + BLOCK], mean, spread)
        np.maximum(closest, (own @ other.T).max(axis=1), out=closest)
    return rows[closest >= similarity]


def _directions(values: Matrix, mean: Float[np.ndarray, "D"], spread: Float[np.ndarray, "D"]) -> Matrix:
    """Unit vectors; an image that lies at the mean has none and stays zero: nobody's twin."""
    centred = (values - mean) / spread
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    directions: Matrix = centred / np.where(length < 1e-6, 1.0, length)
    return directions
