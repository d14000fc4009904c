"""Near-duplicates: files that show one picture, byte for byte, re-saved, cropped a little, recoloured; also
mirrored, where features show both views or mirrors are among the pictures.

The limit depends on the local density. Two aeroplanes in a blue sky may be more alike than two crops of one
cat, so a pair is compared with how close other images usually come to both of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from assay.types import Matrix, PerImage

NEAREST = 20  # neighbours kept of each image
BLOCK = 2048  # rows whose neighbours are looked for at once

# Images that all others are compared with, or a twelfth of them if that is more: the local density hardly
# depends on whether 20 or 100 copies of an image are in the set.
SAMPLE = 4096

# A near-duplicate lies at most this share of the usual spacing away. Of random pairs of the course data, 47
# of 48 below 0.55 were one picture, 23 of 24 from 0.55 to 0.6, about 19 of 24 from 0.6 to 0.65.
CLOSER = 0.6

# Dimension of photographs in features (the course data's is 21). Where pictures vary in fewer ways, such as
# drawings of digits in 11, different ones come closer. Frames of one film vary in one or two ways, and are
# near-duplicates.
VARIED, LEAST_VARIED = 20.0, 8.0

# Spacings of this share of the images, and those below a third of the median, are raised: a picture with many
# copies is surrounded by them, and in a small set twenty copies are more than one image in a hundred.
DENSEST, CROWDED = 0.01, 1 / 3

DIMENSIONS = 128  # of the projection; 64 and 192 took longer: more candidates, or more to multiply
CELLS = 1 << 24  # pairs bounded at once: 64 MiB
MOST_PAIRS = 1 << 21  # kept before they are thinned: ten thousand images of one thing are fifty million pairs
ROUNDING = 1e-5  # of float32 sums: a pair this little below the limit is compared in full


@dataclass(frozen=True)
class NearDuplicates:
    """A group of files that show one picture."""

    rows: tuple[int, ...]
    """The images, two or more, ascending."""
    is_exact: bool
    """Whether all files are equal byte for byte."""
    similarity: float
    """Cosine of the weakest link that holds the group together, [-1, 1]."""


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
    """Intrinsic dimension of the images around each one, at the median, above 0. The share ``s`` of a
    distance holds about ``s ** dimension`` of the images within that distance."""


class Pairs(NamedTuple):
    """P pairs; where they were thinned, still enough to connect the same images."""

    one: Int[np.ndarray, "P"]
    other: Int[np.ndarray, "P"]
    """Always the greater index."""
    cosine: Float[np.ndarray, "P"]


def find_near_duplicates(
    directions: Matrix,
    contents: Sequence[bytes | None],
    spacing: PerImage,
    dimension: float,
    *,
    new: int | None = None,
) -> tuple[NearDuplicates, ...]:
    """All groups, the largest first, then by their first image.

    Parameters
    ----------
    directions : (N, D) unit vectors, one or more
    contents : digest of each image's bytes; None where it is not known
    spacing, dimension : see ``LocalDensity``
    new : the first so many images are compared with all, the others not with each other; None compares all
    """
    n = len(directions)
    by_content: dict[bytes, int] = {}
    by_features: dict[bytes, int] = {}
    first_of = np.arange(n)  # the first image with the same bytes, or else the very same features
    for row, content in enumerate(contents):
        same = row if content is None else by_content.setdefault(content, row)
        first_of[row] = same if same != row else by_features.setdefault(digest_of(directions[row]), row)
    is_first = first_of == np.arange(n)
    singles, again = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    least = max(np.quantile(spacing, DENSEST), CROWDED * np.median(spacing))
    # Of twenty different pictures within the spacing, 20 · s ** dimension lie within the share s of it: they
    # are to be as rare as where pictures vary in VARIED ways.
    closer = float(CLOSER ** max(1.0, VARIED / max(dimension, LEAST_VARIED)))
    reach = closer * np.maximum(spacing[singles], least)
    # Equal features are near-duplicates however dense the place; float32 loses that much.
    limit = np.minimum(1.0 - reach**2 / 2, 1.0 - 1e-5).astype(np.float32)
    pairs = close_pairs(directions[singles], limit, None if new is None else int(is_first[:new].sum()))
    everything = Pairs(
        np.concatenate([first_of[again], singles[pairs.one]]),
        np.concatenate([again, singles[pairs.other]]),
        np.concatenate([np.ones(len(again), np.float32), np.minimum(pairs.cosine, 1.0)]),
    )
    forest = spanning_forest(everything, n)
    graph = coo_array((np.ones(len(forest.one)), (forest.one, forest.other)), shape=(n, n))
    count, label = connected_components(graph, directed=False)
    weakest = np.ones(count)
    np.minimum.at(weakest, label[forest.one], forest.cosine)
    found, order = [], np.argsort(label, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if len(rows) > 1:
            files = {contents[row] for row in rows}
            is_exact = len(files) == 1 and None not in files
            found.append(NearDuplicates(tuple(rows.tolist()), is_exact, float(weakest[label[rows[0]]])))
    return tuple(sorted(found, key=lambda group: (-len(group.rows), group.rows)))


def digest_of(values: Float[np.ndarray, "D"]) -> bytes:
    """16 bytes that stand for an image's features."""
    # A million images keep 16 megabytes, not gigabytes.
    return blake2b(values.tobytes(), digest_size=16).digest()


def standardise(
    views: Sequence[Matrix], more: Float[np.ndarray, "M D"] | None = None
) -> Float[np.ndarray, "R D"]:
    """(N + M, D) float32: the mean over the views, each feature with mean 0 and variance 1 (0 if constant).

    The mean of an image and its mirror is the same for the mirrored image: near-duplicates may be flipped.

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


def local_density(features: Matrix, seed: int = 0) -> LocalDensity:
    """The neighbours of each image in a random sample, and how close they are.

    Parameters
    ----------
    features : (N, D) standardised, see ``standardise``; two rows or more
    seed : draws the sample
    """
    n = len(features)
    directions = unit_rows(features)
    del features  # if nobody else has them: they are as large
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
    # About the 20th nearest of all; in few images one that belongs. Never the first: it may be the copy.
    wanted = round(min(NEAREST, n / NEAREST) * size / n)
    rank = max(1, min(max(2, wanted), kept))
    return LocalDensity(directions, nearest, apart[:, rank - 1], _dimension(apart))


def distance(cosine: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Between the ends of two unit vectors, in [0, 2]."""
    apart: Float[np.ndarray, "..."] = np.sqrt(np.maximum(2.0 - 2.0 * cosine, 0.0))
    return apart


def _dimension(apart: Float[np.ndarray, "N k"]) -> float:
    """From how much farther twice as many neighbours reach (Farahmand, Szepesvári and Audibert 2007)."""
    if apart.shape[1] < NEAREST:
        return np.inf  # too few neighbours to tell
    near, far = apart[:, NEAREST // 2 - 1], apart[:, -1]
    spread = far > near
    if not spread.any():
        return np.inf  # all images are equal
    growth = np.log(far[spread] / np.maximum(near[spread], 1e-6))
    return float(np.log(2.0) / np.median(growth))


def close_pairs(directions: Matrix, limit: PerImage, new: int | None = None) -> Pairs:
    """Every pair whose cosine reaches the limits of both; exact, though few pairs are compared in full.

    The cosine of unit vectors x and y is at most ``Px·Py + |x - Px| |y - Py|`` for any orthogonal projection
    P (Cauchy and Schwarz). With P on the widest 128 directions of the data that bound rules out nearly all
    pairs at a sixth of the cost.

    Parameters
    ----------
    directions : (N, D) unit vectors, or zeros
    limit : (N,) the least cosine at which an image counts as close to another
    new : each pair has one of the first so many images; None for all pairs
    """
    n = len(directions)
    sample = directions[:: max(1, n // 10_000)]
    _, axes = np.linalg.eigh(sample.T @ sample)
    projected = directions @ axes[:, -DIMENSIONS:]
    rest = np.einsum("nd,nd->n", directions, directions) - np.einsum("nd,nd->n", projected, projected)
    # The length of what is left out is one more coordinate, so that one product gives the bound.
    shadows = np.column_stack([projected, np.sqrt(np.maximum(rest, 0.0))]).astype(np.float32)
    found, kept = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))], 0
    height = max(1, CELLS // max(n, 1))
    for start in range(0, n if new is None else new, height):
        stop = min(start + height, n if new is None else new)
        bound = shadows[start:stop] @ shadows[start:].T
        hits = np.flatnonzero(bound >= (limit[start:stop, None] - ROUNDING))
        one, other = np.divmod(hits, n - start)
        maybe = (other > one) & (bound.ravel()[hits] >= limit[other + start] - ROUNDING)
        one, other = one[maybe] + start, other[maybe] + start
        cosine = np.empty(len(one), np.float32)
        for first in range(0, len(one), 1 << 14):  # in parts: a crowd may have millions of candidates
            part = slice(first, first + (1 << 14))
            cosine[part] = np.einsum("nd,nd->n", directions[one[part]], directions[other[part]])
        close = cosine >= np.maximum(limit[one], limit[other])
        found.append(Pairs(one[close], other[close], cosine[close]))
        kept += int(close.sum())
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


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
