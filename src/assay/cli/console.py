"""Results on stdout: words, JSON, and tables as people read them."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.progress import escaped, notify
from assay.text import cut

if TYPE_CHECKING:
    from assay.types import Notify


def show(text: str) -> None:
    """Print a result on stdout."""
    print(escaped(text))


def show_json(facts: Any) -> None:
    """Print a result as JSON on stdout."""
    show(json.dumps(facts, indent=1))


def notifier(quiet: bool) -> "Notify":
    """``notify``, or under ``--quiet`` a function that does nothing."""
    return (lambda _: None) if quiet else notify


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their names; the first aligned left, the others right; long names are cut."""
    lines, rows = [], [[cut(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for first, *others in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
