"""Matrices as heat maps: a table that is coloured where its numbers fit, a picture where they do not."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from assay.report.charts import chart, tag, words
from assay.report.galleries import data_url
from assay.text import cut

MOST_IN_TABLE = 16
"""Classes up to which every cell has its numbers; a wider table would not fit a sheet of paper."""

LEVELS = 10
"""Steps of colour; the style sheet has a class for each."""

_MOST_PIXELS = 300
"""A side of the picture; of more classes several share a pixel, which shows the greatest of them."""

_MOST_TICKS = 20
_FIELD, _LEFT, _TOP = 250, 84, 6
_HEAT = (0x2F, 0x7F, 0xD6)


def level(share: float) -> str:
    """The class of a cell: ``h0`` to ``h10``. What is not 0 is never ``h0``."""
    return f"h{max(round(LEVELS * share), int(share > 0.005))}"


def shares(counts: Any) -> np.ndarray:
    """Each row divided by its total; rows of zeros stay."""
    numbers = np.asarray(counts, dtype=float)
    divided: np.ndarray = numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1e-12)
    return divided


def heat_picture(
    name: str, matrix: np.ndarray, titles: Sequence[str], *, title: str, description: str, columns: str
) -> str:
    """A picture of a matrix of shares (K, K), the trusted class in rows, as an SVG element.

    One colour, more or less opaque, so that it reads on a light page and on a dark one.
    """
    k, parts = len(titles), []
    step = -(-k // _MOST_TICKS)
    for i in range(0, k, step):
        middle = (i + 0.5) * _FIELD / k
        parts.append(words(cut(titles[i], 14), _LEFT - 5, _TOP + middle + 3, "tick", "end"))
        x, y = _LEFT + middle, _TOP + _FIELD + 8
        turned = {"class_": "tick", "text_anchor": "end", "transform": f"rotate(-60 {x:.1f} {y:.1f})"}
        parts.append(tag("text", escape(cut(titles[i], 14)), x=x, y=y, **turned))
    place = {"x": _LEFT, "y": _TOP, "width": _FIELD, "height": _FIELD}
    parts.append(tag("image", href=data_url(_png(matrix), "image/png"), preserveAspectRatio="none", **place))
    parts.append(tag("rect", class_="frame", **place))
    parts.append(words(f"across: {columns}; down: trusted", _LEFT, _TOP + _FIELD + 84))
    return chart(name, _TOP + _FIELD + 92, title, description, parts)


def _png(matrix: np.ndarray) -> bytes:
    block = -(-len(matrix) // _MOST_PIXELS)
    padding = -len(matrix) % block
    padded = np.pad(matrix, ((0, padding), (0, padding)))
    side = len(padded) // block
    small = padded.reshape(side, block, side, block).max(axis=(1, 3))
    # A root brings out the small shares, which are most of what goes wrong.
    opaque = np.round(255 * np.sqrt(np.clip(small, 0, 1))).astype(np.uint8)
    image = Image.frombytes("P", (side, side), opaque.tobytes())
    image.putpalette(bytes(_HEAT) * 256)
    buffer = BytesIO()
    image.save(buffer, "PNG", transparency=bytes(range(256)), optimize=True)
    return buffer.getvalue()
