"""Results on stdout, words and progress for a person on stderr; numbers as people write them."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from assay.types import Progress

SHOW_EVERY_S = 10.0
"""Without a terminal a long step says a line this often, so that a log shows it lives."""

RECENT_S = 20.0
"""By how much of the past the time left is told."""


def show(text: str) -> None:
    """A result on stdout."""
    print(_harmless(text))


def notify(text: str) -> None:
    """A line on stderr; if nobody reads it any more, the work goes on in silence."""
    try:
        print(_harmless(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        redirect_to_devnull(sys.stderr)


def redirect_to_devnull(stream: TextIO) -> None:
    """Nothing more is written to a stream that nobody reads, not even at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _harmless(text: str) -> str:
    """Without control characters: file names and labels come from strangers and may steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress_bar(quiet: bool) -> "Iterator[Progress]":
    """A Progress: a bar with rate and time left on a terminal, a line now and then elsewhere."""
    if quiet:
        from assay.types import silent  # NumPy comes with it, and help does without

        yield silent
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _rich_bar() as progress:
            yield progress
    else:
        yield Lines()


@contextmanager
def _rich_bar() -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}
        rates = Rates()

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = int(bars.add_task(stage, total=total, rate=""))
            rate = rates.of(stage, done)
            shown = f"{rate:,.0f}/s" if rate >= 10 else ""
            bars.update(tasks[stage], total=total, completed=done, rate=shown)  # type: ignore[arg-type]  # rich's TaskID is an int

        yield advance


@dataclass
class Rates:
    """How fast each stage goes, of late: what was found in a cache does not count for long."""

    seen: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    """Stage -> times and the items that were finished then: the last ones, at least two."""

    def of(self, stage: str, done: int) -> float:
        """Items a second of a stage of which ``done`` are finished now; 0 where that is not known yet."""
        points, now = self.seen.setdefault(stage, deque()), time.monotonic()
        if points and points[-1][1] > done:  # the stage begins again
            points.clear()
        points.append((now, done))
        while len(points) > 2 and points[0][0] < now - RECENT_S:
            points.popleft()
        since, before = points[0]
        return (done - before) / (now - since) if now > since else 0.0


@dataclass
class Lines:
    """Progress where there is no terminal."""

    rates: Rates = field(default_factory=Rates)
    last: float = field(default_factory=time.monotonic)
    """When something was last said."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far it is, unless that was done a moment ago."""
        now, rate = time.monotonic(), self.rates.of(stage, done)
        if now - self.last < SHOW_EVERY_S or rate <= 0:
            return
        self.last = now
        shown = f", {rate:,.0f} a second" if rate >= 1 else ""
        notify(f"{stage}: {done:,} of {total:,}{shown}, {(total - done) / rate:,.0f} s left")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their names; the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
