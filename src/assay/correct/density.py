"""How an image lies among the others: its direction, its neighbours, and how close others usually come.

Neighbours are looked for in a random sample of the images. That costs a twelfth of all pairs, and what
is said of an image hardly depends on whether 20 or 100 copies of it are in the set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from assay.types import Matrix, PerImage

SAMPLE = 4096
"""Images that all others are compared with, or a twelfth of them if that is more."""

NEAREST = 20
"""Neighbours kept of each image."""

BLOCK = 2048


@dataclass(frozen=True)
class LocalDensity:
    """N images among each other; each has the index of its row of ``directions``."""

    directions: Matrix
    """(N, D) float32 unit vectors of standardised features; zero for an image that is the mean of all."""
    nearest: Int[np.ndarray, "N k"]
    """The sampled images most like each one, itself aside, the most alike first."""
    spacing: PerImage
    """Distance, in [0, 2], to about the 20th nearest of all images: what is close here."""
    dimension: float
    """Of the images around each one, at the median: the number of ways in which they vary, above 0. The
    share ``s`` of a distance holds about ``s ** dimension`` of the images within that distance."""


def local_density(features: Matrix, seed: int = 0) -> LocalDensity:
    """Find the neighbours of each image.

    Parameters
    ----------
    features : (N, D) standardised, see ``standardise``; two rows or more
    seed : draws the sample
    """
    n = len(features)
    directions = unit_rows(features)
    size = min(n, max(SAMPLE, n // 12))
    sample = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    kept = min(NEAREST, size - 1)
    places = np.full(n, -1)
    places[sample] = np.arange(size)
    nearest, cosines = np.empty((n, kept), np.int64), np.empty((n, kept), np.float32)
    others = directions[sample].T
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        likeness = directions[rows] @ others
        inside = np.flatnonzero(places[rows] >= 0)
        likeness[inside, places[rows][inside]] = -2.0  # an image is not its own neighbour
        best = np.argpartition(likeness, size - kept, axis=1)[:, size - kept :]
        found = np.take_along_axis(likeness, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        nearest[rows] = sample[np.take_along_axis(best, order, axis=1)]
        cosines[rows] = np.take_along_axis(found, order, axis=1)
    apart = distance(cosines)
    return LocalDensity(directions, nearest, apart[:, _rank(n, size) - 1], _dimension(apart))


def standardise(
    views: Sequence[Matrix], more: Float[np.ndarray, "M D"] | None = None
) -> Float[np.ndarray, "R D"]:
    """(N + M, D) float32: the mean over the views, each feature with mean 0 and variance 1 (0 if constant).

    The mean of an image and its mirror is the same for the mirrored image: copies may be flipped.

    Parameters
    ----------
    more : (M, D) features of other pictures, shifted and scaled as the views are
    """
    total = np.zeros(views[0].shape, np.float32)
    for view in views:
        total += view
    mean, spread = total.mean(axis=0), total.std(axis=0)
    # The rounded mean of a constant feature leaves it a spread, the wider the more rows there are.
    spread[(spread < 1e-6) | (total.min(axis=0) == total.max(axis=0))] = np.inf
    if more is not None:
        total = np.concatenate([total, len(views) * more], dtype=np.float32)
    total -= mean
    total /= spread
    return total


def unit_rows(features: Matrix) -> Matrix:
    """The rows with length 1; a row of zeros stays one."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    rows: Matrix = features / np.where(length < 1e-6, np.inf, length)
    return rows


def distance(cosine: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Between the ends of two unit vectors, in [0, 2]."""
    apart: Float[np.ndarray, "..."] = np.sqrt(np.maximum(2.0 - 2.0 * cosine, 0.0))
    return apart


def _dimension(apart: Float[np.ndarray, "N k"]) -> float:
    """From how much farther twice as many neighbours reach (Farahmand, Szepesvári and Audibert 2007).

    Infinite where there are too few neighbours to tell, or none farther than others.
    """
    kept = apart.shape[1]
    if kept < NEAREST:
        return np.inf
    near, far = apart[:, kept // 2 - 1], apart[:, -1]
    spread = far > near
    if not spread.any():
        return np.inf
    growth = np.log(far[spread] / np.maximum(near[spread], 1e-6))
    return float(np.log(2.0) / np.median(growth))


def _rank(n: int, size: int) -> int:
    """Which neighbour in the sample is about the 20th of all; in few images one that is no stranger yet."""
    wanted = min(NEAREST, n / NEAREST) * size / n
    # Never the first: it may be the one copy that is asked about.
    return max(1, min(max(2, round(wanted)), NEAREST, size - 1))
