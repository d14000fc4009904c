"""All pairs of images closer than a limit: exact, and yet most pairs are never compared in full.

The cosine of unit vectors x and y is at most ``Px·Py + |x - Px| |y - Py|`` for any orthogonal projection
P (Cauchy and Schwarz, on what the projection leaves out). With P on the widest 128 directions of the data
that bound rules out nearly all pairs at a sixth of the cost, and never one that it should not.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from assay.types import Matrix, PerImage

DIMENSIONS = 128
"""On the course data 64 and 192 took longer: more candidates to check, or more to multiply."""

CELLS = 1 << 26
"""Pairs bounded at once: 256 MiB."""

MOST_PAIRS = 1 << 21
"""Pairs kept before they are thinned: ten thousand images of one thing are fifty million pairs."""

ROUNDING = 1e-5
"""Of float32 sums: a pair this little below the limit is looked at in full."""


@dataclass(frozen=True)
class Pairs:
    """P pairs; where they were thinned, still enough to connect the same images."""

    one: Int[np.ndarray, "P"]
    other: Int[np.ndarray, "P"]
    """Always the greater index."""
    cosine: Float[np.ndarray, "P"]


def close_pairs(directions: Matrix, limit: PerImage) -> Pairs:
    """Every pair whose cosine reaches the limits of both.

    Parameters
    ----------
    directions : (N, D) unit vectors, or zeros
    limit : (N,) the least cosine at which an image counts as close to another
    """
    n, shadows = len(directions), _shadows(directions)
    found, kept = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))], 0
    height = max(1, CELLS // max(n, 1))
    for start in range(0, n, height):
        stop = min(start + height, n)
        bound = shadows[start:stop] @ shadows[start:].T
        hits = np.flatnonzero(bound >= (limit[start:stop, None] - ROUNDING))
        one, other = np.divmod(hits, n - start)
        maybe = (other > one) & (bound.ravel()[hits] >= limit[other + start] - ROUNDING)
        pairs = _compare(directions, limit, one[maybe] + start, other[maybe] + start)
        found.append(pairs)
        kept += len(pairs.one)
        if kept > MOST_PAIRS:
            found = [spanning_forest(_joined(found), n)]
            kept = len(found[0].one)
    return _joined(found)


def spanning_forest(pairs: Pairs, n: int) -> Pairs:
    """The pairs of the greatest cosines that connect the same of the N images, without a circle."""
    # SciPy takes a weight of 0 for no edge at all.
    weights = np.maximum(2.0 - pairs.cosine.astype(np.float64), 1e-9)
    forest = minimum_spanning_tree(coo_array((weights, (pairs.one, pairs.other)), shape=(n, n))).tocoo()
    one, other = (np.asarray(ends, np.int64) for ends in (forest.row, forest.col))
    return Pairs(np.minimum(one, other), np.maximum(one, other), (2.0 - forest.data).astype(np.float32))


def _shadows(directions: Matrix) -> Float[np.ndarray, "N d"]:
    """The projections, and as one more coordinate the length of what they leave out."""
    sample = directions[:: max(1, len(directions) // 10_000)]
    _, axes = np.linalg.eigh(sample.T @ sample)
    projected = directions @ axes[:, -DIMENSIONS:]
    rest = np.einsum("nd,nd->n", directions, directions) - np.einsum("nd,nd->n", projected, projected)
    shadows: Float[np.ndarray, "N d"] = np.column_stack([projected, np.sqrt(np.maximum(rest, 0.0))]).astype(
        np.float32
    )
    return shadows


def _compare(
    directions: Matrix, limit: PerImage, one: Int[np.ndarray, "C"], other: Int[np.ndarray, "C"]
) -> Pairs:
    """Those of the candidates that are close in all dimensions."""
    cosine = np.empty(len(one), np.float32)
    for start in range(0, len(one), 1 << 14):
        part = slice(start, start + (1 << 14))
        cosine[part] = np.einsum("nd,nd->n", directions[one[part]], directions[other[part]])
    close = cosine >= np.maximum(limit[one], limit[other])
    return Pairs(one[close], other[close], cosine[close])


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([part.one for part in parts]),
        np.concatenate([part.other for part in parts]),
        np.concatenate([part.cosine for part in parts]),
    )
