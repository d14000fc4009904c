"""Results on stdout, words and progress on stderr; tables as people read them."""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from assay.text import cut

if TYPE_CHECKING:
    from assay.types import Notify, Progress

LINE_EVERY_S = 10.0
"""Without a terminal, progress is a line this often, so that a log shows that the command is alive."""

RECENT_S = 20.0
"""Rates are those of so many last seconds: items found in a cache must not count for long."""


def show(text: str) -> None:
    """Print a result on stdout."""
    print(_escaped(text))


def show_json(facts: Any) -> None:
    """Print a result as JSON on stdout."""
    show(json.dumps(facts, indent=1))


def notify(text: str) -> None:
    """Print a line on stderr; if its reader is gone, work goes on in silence."""
    try:
        print(_escaped(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        redirect_to_devnull(sys.stderr)


def notifier(quiet: bool) -> "Notify":
    """``notify``, or under ``--quiet`` a function that does nothing."""
    return (lambda _: None) if quiet else notify


def redirect_to_devnull(stream: TextIO) -> None:
    """Write nothing more to a stream that nobody reads."""
    # Closing it is not enough: Python flushes it at exit, which would fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _escaped(text: str) -> str:
    # Names and labels from strangers could steer the terminal by control characters.
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress_bar(quiet: bool) -> "Iterator[Progress]":
    """Progress as a bar with rate and time left on a terminal, as a line now and then elsewhere."""
    if quiet:
        yield lambda *_: None
        return
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bars() as progress:
            yield progress
        return
    rates, last = Rates(), time.monotonic()

    def line(stage: str, done: int, total: int) -> None:
        nonlocal last
        now, rate = time.monotonic(), rates.update(stage, done)
        if now - last < LINE_EVERY_S or rate <= 0:
            return
        last = now
        shown = f", {rate:,.0f} per second" if rate >= 1 else ""
        notify(f"{stage}: {done:,} of {total:,}{shown}, {(total - done) / rate:,.0f} s left")

    yield line


@contextmanager
def _bars() -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        rates = Rates()

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, rate="")
            rate = rates.update(stage, done)
            shown = f"{rate:,.0f}/s" if rate >= 10 else ""
            bars.update(tasks[stage], total=total, completed=done, rate=shown)

        yield advance


class Rates:
    """Items per second of each stage, over the last ``RECENT_S``."""

    def __init__(self) -> None:
        self._points: dict[str, deque[tuple[float, int]]] = {}

    def update(self, stage: str, done: int) -> float:
        """The rate of a stage of which ``done`` items are finished now; 0 while it is unknown."""
        points, now = self._points.setdefault(stage, deque()), time.monotonic()
        if points and points[-1][1] > done:  # the stage starts again
            points.clear()
        points.append((now, done))
        # Two points stay: a step may take longer than the window.
        while len(points) > 2 and points[0][0] < now - RECENT_S:
            points.popleft()
        since, before = points[0]
        return (done - before) / (now - since) if now > since else 0.0


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their names; the first aligned left, the others right; long names are cut."""
    lines, rows = [], [[cut(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for first, *others in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
