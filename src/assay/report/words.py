"""Numbers and strangers' words as the report writes them."""

import re
from collections.abc import Mapping
from typing import Any

from assay.data.visible import visible
from assay.noise.words import percent
from assay.notebook.compare_table import p_value

FigureRange = Mapping[str, Any]
"""An interval as JSON has it: ``estimate``, ``low``, ``high``, ``level``."""

MOST_SIGNS = 60
"""Of a name on the page; report.json has all of it."""

_TAIL = 12
"""Signs kept of a long name's end, where a file has its number and its kind."""


def cut(text: str, most: int = MOST_SIGNS) -> str:
    """``visible``, and no longer than ``most`` signs: a name may be as long as a stranger likes."""
    # What is cut away is never escaped: it may be a million signs.
    shown = visible(text) if len(text) <= most else visible(text[:most])
    if len(text) <= most and len(shown) <= most:
        return shown
    tail = visible(text[-_TAIL:])[-_TAIL:]
    return f"{shown[: most - _TAIL - 1]}…{tail}"


def sure(confidence: float) -> str:
    """``93.8 %``; the files of a run have four decimals, so there is no telling 1 from almost."""
    return "> 99.9 %" if confidence > 0.999 else percent(confidence)


def range_of(found: FigureRange) -> str:
    """``59.3 to 61.5``, in percent."""
    return f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"


def interval(found: FigureRange | None) -> str:
    """``60.4 % (59.3 to 61.5)``; a dash where nothing was measured."""
    return f"{percent(found['estimate'])} ({range_of(found)})" if found else "–"


def p_words(p: float) -> str:
    """``p = 0.15`` or ``p < 0.001``."""
    shown = p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def seconds(value: float) -> str:
    """``0.4 s``, ``87 s`` or ``8 min 3 s``."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 120 else f"{whole // 60:,} min {whole % 60} s"


def megabytes(size: int) -> str:
    """``21.3 MB``, ``19.9 kB``."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def gibibytes(size: int) -> str:
    """``1.50 GiB``."""
    return f"{size / 2**30:.2f} GiB"


def counted(n: int, one: str, many: str = "") -> str:
    """``1 image``, ``3 images``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def one_line(text: str, most: int = 600) -> str:
    """A sentence of a run, such as a warning, which may hold names: on one line, harmless, not endless."""
    return cut(re.sub(r"\s+", " ", text), most)
