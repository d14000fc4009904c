"""Which images the report shows, and their thumbnails inside the page."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image

from assay.data.dataset import ImageSource
from assay.data.files import Limits
from assay.data.loader import THUMBNAIL_TYPE, draw_thumbnail
from assay.drawing import data_url
from assay.pipeline.finished import FinishedRun

SHOWN = 24
"""Images of a gallery."""

SIDE = 128
"""Pixels at most: sharp on a screen, and all galleries together weigh half a megabyte."""

MAX_BYTES = 1_800_000
"""Of all thumbnails together, so that no page is larger than 5 MB; photos need a third of it."""

TOO_LARGE = "the page would grow too large"


@dataclass(frozen=True)
class Gallery:
    """Some images of one kind."""

    title: str
    about: str
    """How they were chosen."""
    rows: tuple[int, ...]
    """Of labels.csv, in the order to show them."""
    of: int
    """Images of the kind."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a page holds it."""

    address: str = field(repr=False)
    """A data: URL."""
    width: int
    height: int


def choose_galleries(run: FinishedRun, seed: int) -> tuple[Gallery, ...]:
    """The most confident changes, the least certain labels, and changes at random; no held-out image."""
    actions = np.array(run.actions, dtype=object)
    changed, unsure = (np.flatnonzero((actions == kind) & ~run.held_out) for kind in ("changed", "unsure"))
    found = (
        (
            "The most confident changes",
            "Changed labels with the highest confidence.",
            changed[np.argsort(-run.confidence[changed], kind="stable")],
        ),
        (
            "The least certain labels",
            "Labels with the lowest confidence: nothing was changed, a person should decide.",
            unsure[np.argsort(run.confidence[unsure], kind="stable")],
        ),
        (
            "Changes at random",
            "A random sample of all changed labels, to judge how good they are.",
            np.random.default_rng(seed).permutation(changed),
        ),
    )
    return tuple(
        Gallery(title, about, tuple(rows[:SHOWN].tolist()), len(rows))
        for title, about, rows in found
        if len(rows)
    )


def draw_pictures(images: ImageSource, rows: Iterable[int], limits: Limits) -> Mapping[int, Picture | str]:
    """Row -> its thumbnail, or why there is none.

    Parameters
    ----------
    rows : in the order of showing; one that comes twice is in the page twice
    limits : size limits of an image file
    """
    found: dict[int, Picture | str] = {}
    left = MAX_BYTES
    for row, times in Counter(rows).items():
        drawn = draw_thumbnail(images, row, SIDE, limits)
        if not isinstance(drawn, bytes):
            found[row] = drawn.reason
        elif times * len(drawn) > left:
            found[row] = TOO_LARGE
        else:
            left -= times * len(drawn)
            with Image.open(BytesIO(drawn), formats=["WEBP"]) as opened:
                found[row] = Picture(data_url(drawn, THUMBNAIL_TYPE), *opened.size)
    return found
