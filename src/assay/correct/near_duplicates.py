"""Copies: files that show one picture, byte for byte, re-saved, cropped a little, recoloured; mirrored, where
features show both views or mirrors are among the pictures.

What counts as close depends on where an image lies. Two aeroplanes in a blue sky may be more alike than
two crops of one cat, so a pair is judged by how close other images usually come to both of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from assay.correct.close_pairs import Pairs, close_pairs, spanning_forest
from assay.types import Labels, Matrix, PerImage

CLOSER = 0.6
"""A copy lies at most this share of the usual spacing away. On the course data, of random pairs looked at,
47 of 48 below 0.55 were one picture, 23 of 24 from 0.55 to 0.6, about 19 of 24 from 0.6 to 0.65."""

VARIED = 20.0
"""Ways in which photographs vary, in features; the course data's do in 21. Where pictures vary in fewer ways,
such as drawings of digits in 11, strangers come closer."""

LEAST_VARIED = 8.0
"""Frames of one film vary in one or two ways, and are copies."""

DENSEST = 0.01
"""Share of the images whose spacing is not believed: a picture with many copies is surrounded by them."""

CROWDED = 1 / 3
"""Nor is a spacing believed that is below this share of the usual one: in a small set twenty copies of one
picture are more than one in a hundred."""


@dataclass(frozen=True)
class NearDuplicates:
    """One picture under several names."""

    rows: tuple[int, ...]
    """The images, two or more, ascending."""
    is_exact: bool
    """Whether all files are equal byte for byte."""
    similarity: float
    """Cosine of the weakest link that holds the group together, [-1, 1]."""


def closer_of(dimension: float) -> float:
    """The share of the spacing within which two images are copies, at most ``CLOSER``.

    Of twenty strangers within the spacing, ``20 * s ** dimension`` are within the share ``s`` of it. They
    are to be as rare as where pictures vary in ``VARIED`` ways.

    Parameters
    ----------
    dimension : see ``LocalDensity``
    """
    return float(CLOSER ** max(1.0, VARIED / max(dimension, LEAST_VARIED)))


def find_near_duplicates(
    directions: Matrix, contents: Sequence[bytes | None], spacing: PerImage, dimension: float
) -> tuple[NearDuplicates, ...]:
    """All groups of copies, the largest first, then by their first image.

    Parameters
    ----------
    directions : (N, D) unit vectors, one or more
    contents : digest of each image's bytes; None where it is not known
    spacing, dimension : see ``LocalDensity``
    """
    first_of = _first_equal(directions, contents)
    singles = np.flatnonzero(first_of == np.arange(len(first_of)))
    least = max(np.quantile(spacing, DENSEST), CROWDED * np.median(spacing))
    reach = closer_of(dimension) * np.maximum(spacing[singles], least)
    # Equal features are copies however dense the place; float32 loses that much.
    limit = np.minimum(1.0 - reach**2 / 2, 1.0 - 1e-5).astype(np.float32)
    pairs = close_pairs(directions[singles], limit)
    again = np.flatnonzero(first_of != np.arange(len(first_of)))
    everything = Pairs(
        np.concatenate([first_of[again], singles[pairs.one]]),
        np.concatenate([again, singles[pairs.other]]),
        np.concatenate([np.ones(len(again), np.float32), np.minimum(pairs.cosine, 1.0)]),
    )
    found = [
        NearDuplicates(tuple(rows.tolist()), _all_equal([contents[row] for row in rows]), weakest)
        for rows, weakest in _groups(spanning_forest(everything, len(first_of)), len(first_of))
    ]
    return tuple(
        sorted(found, key=lambda near_duplicates: (-len(near_duplicates.rows), near_duplicates.rows))
    )


def digest_of(values: Float[np.ndarray, "D"]) -> bytes:
    """16 bytes that stand for an image's features: a million images keep 16 megabytes, not gigabytes."""
    return blake2b(values.tobytes(), digest_size=16).digest()


def _first_equal(directions: Matrix, contents: Sequence[bytes | None]) -> Labels:
    """The first image that has the same bytes or the very same features, for each image."""
    by_content: dict[bytes, int] = {}
    by_features: dict[bytes, int] = {}
    first = np.arange(len(directions))
    for row, content in enumerate(contents):
        same = row if content is None else by_content.setdefault(content, row)
        first[row] = same if same != row else by_features.setdefault(digest_of(directions[row]), row)
    return first


def _groups(forest: Pairs, n: int) -> Iterator[tuple[Int[np.ndarray, "R"], float]]:
    """The rows of each connected component of two or more, and the weakest link in it."""
    graph = coo_array((np.ones(len(forest.one)), (forest.one, forest.other)), shape=(n, n))
    count, label = connected_components(graph, directed=False)
    weakest = np.ones(count)
    np.minimum.at(weakest, label[forest.one], forest.cosine)
    order = np.argsort(label, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if len(rows) > 1:
            yield rows, float(weakest[label[rows[0]]])


def _all_equal(contents: Sequence[bytes | None]) -> bool:
    return contents[0] is not None and len(set(contents)) == 1
