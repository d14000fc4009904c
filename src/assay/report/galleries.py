"""Which images the report shows, and the images themselves, drawn anew and inside the page."""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image

from assay.data.dataset import ImageSource
from assay.data.limits import Limits
from assay.data.thumbnails import MEDIA_TYPE, draw_thumbnail
from assay.pipeline.finished import FinishedRun

SHOWN = 24
"""Images of a gallery."""

SIDE = 128
"""Pixels at the most: sharp on a screen, and all galleries together weigh half a megabyte."""

MOST_BYTES = 1_800_000
"""Of all thumbnails together: photos need a third of it, and nothing makes the page heavier than 5 MB."""

TITLES = {
    "The surest changes": "Changed labels with the highest confidence.",
    "The most doubtful": "Labels with the lowest confidence: nothing was decided, a person should look.",
    "Changes at random": "A fair sample of all changed labels: by these one can judge how good they are.",
}

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
    """The surest changes, the most doubtful labels, and changes at random; those that have an image.

    Held-out images are in none: what is sealed is not looked at.
    """
    sealed = run.held_out
    changed, unsure = (
        np.flatnonzero(np.array([found == action for found in run.actions], dtype=bool) & ~sealed)
        for action in ("changed", "unsure")
    )
    surest = changed[np.argsort(-run.confidence[changed], kind="stable")]
    doubtful = unsure[np.argsort(run.confidence[unsure], kind="stable")]
    drawn = np.random.default_rng(seed).permutation(changed)
    found = zip(TITLES.items(), (surest, doubtful, drawn), strict=True)
    return tuple(
        Gallery(title, about, tuple(rows[:SHOWN].tolist()), len(rows))
        for (title, about), rows in found
        if len(rows)
    )


def draw_pictures(images: ImageSource, rows: Iterable[int], limits: Limits) -> Mapping[int, Picture | str]:
    """Row -> its thumbnail, or why there is none.

    Parameters
    ----------
    rows : in the order of showing; one that comes twice is in the page twice
    limits : what an image file may ask for
    """
    found: dict[int, Picture | str] = {}
    left = MOST_BYTES
    for row, times in Counter(rows).items():
        drawn = draw_thumbnail(images, row, SIDE, limits)
        if not isinstance(drawn, bytes):
            found[row] = drawn.reason
        elif times * len(drawn) > left:
            found[row] = TOO_LARGE
        else:
            left -= times * len(drawn)
            found[row] = _picture(drawn)
    return found


def _picture(drawn: bytes) -> Picture:
    with Image.open(BytesIO(drawn), formats=["WEBP"]) as opened:
        width, height = opened.size
    return Picture(data_url(drawn, MEDIA_TYPE), width, height)


def data_url(content: bytes, media_type: str) -> str:
    """The content inside an address, so that a page asks nobody for it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
