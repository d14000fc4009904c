"""How numbers, and words that came with the data, are written for a person."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_NAME = 60
"""Characters of a file or class name that a page shows."""

FEW = 20
"""Images below which a share is written as a count."""

_TAIL = 12
"""Characters kept of a long name's end, where a file has its number and its extension."""


def percent(share: float) -> str:
    """``0.6031`` as ``60.3 %``; a share too small for one decimal keeps two digits."""
    hundred = 100 * share
    return f"{hundred:.1f} %" if hundred == 0 or hundred >= 0.1 else f"{hundred:.2g} %"


def percent_range(low: float, high: float) -> str:
    """``0.9, 0.905`` as ``90.0 to 90.5``."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def share_of(share: float, n: int) -> str:
    """``95.0 %``; of fewer than 20 images the count, ``6 of 7``, as a percentage of so few looks exact."""
    return percent(share) if n >= FEW else f"{round(share * n)} of {n}"


def interval(found: Mapping[str, Any] | None, n: int = FEW) -> str:
    """An interval as JSON has it as ``60.4 % (59.3 to 61.5)``, of few images as ``6 of 7 (48.7 to 97.4 %)``;
    a dash where nothing was measured.
    """
    if not found:
        return "–"
    ends = percent_range(found["low"], found["high"])
    return f"{share_of(found['estimate'], n)} ({ends}{'' if n >= FEW else ' %'})"


def p_value(p: float) -> str:
    """``0.0312`` as ``0.031``; a very small one as ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_equals(p: float) -> str:
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


def of_groups(n: int | None) -> str:
    """`` in 12 groups``, after a number of images; nothing where no groups were declared."""
    return f" in {counted(n, 'group')}" if n else ""


def listed(words: Sequence[str], at_most: int = 5) -> str:
    """``a, b and c``; of more than ``at_most`` the rest is counted: ``a, b and 3 more``."""
    shown, left_out = list(words[:at_most]), len(words) - at_most
    if left_out > 0:
        shown.append(f"{left_out} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def visible(text: str) -> str:
    """Text in which control characters, direction marks and undecodable bytes are escapes."""
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(shown)


def cut(text: str, most: int = MAX_NAME) -> str:
    """``visible``, and at most ``most`` characters: the beginning, ``…`` and the end."""
    # Cut first: the middle may be a million characters.
    shown = visible(text) if len(text) <= most else visible(text[:most])
    if len(text) <= most and len(shown) <= most:
        return shown
    tail = visible(text[-_TAIL:])[-_TAIL:]
    return f"{shown[: most - _TAIL - 1]}…{tail}"


def one_line(text: str, most: int = 600) -> str:
    """A message that may quote names from the data, on one line, escaped and cut."""
    return cut(re.sub(r"\s+", " ", text), most)
