"""Confusions of the other recipes, which a comparison has drawn into its folder: shown as they are.

Their counts are in no file: a comparison keeps what each model says of the held-out images, and their
trusted labels are sealed again.
"""

import re
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

from assay.notebook.listing import SYSTEMS
from assay.report.galleries import data_url

MOST_BYTES = 750_000
"""Of all drawings together; one that does not fit is left out."""


@dataclass(frozen=True)
class Drawing:
    """An SVG file, to be shown as an image: nothing in it can run or fetch."""

    title: str
    description: str
    """What it shows, in words."""
    address: str = field(repr=False)
    """A data: URL."""


def read_drawings(folder: Path) -> tuple[Drawing, ...]:
    """The confusion of each recipe in their order, but ``assay``, whose own counts the report has."""
    left, drawings = MOST_BYTES, list[Drawing]()
    for system in SYSTEMS:
        file = folder / "pictures" / f"confusion_{system}.svg"
        if not file.is_file() or file.stat().st_size > left:
            continue
        content = file.read_bytes()
        left -= len(content)
        text = content.decode("utf-8", "replace")
        title, description = (_inside(text, name) for name in ("title", "desc"))
        drawings.append(Drawing(title or file.name, description, data_url(content, "image/svg+xml")))
    return tuple(drawings)


def _inside(text: str, name: str) -> str:
    found = re.search(rf"<{name}\b[^>]*>([^<]*)</{name}>", text)
    return unescape(found[1]).strip() if found else ""
