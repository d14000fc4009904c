"""Results on stdout, words and progress for a person on stderr; numbers as people write them."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay._types import Progress

SHOW_EVERY_S = 10.0
"""Without a terminal a long step says a line this often, so that a log shows it lives."""


def show(text: str) -> None:
    """A result on stdout."""
    print(_harmless(text))


def say(text: str) -> None:
    """A line on stderr."""
    print(_harmless(text), file=sys.stderr, flush=True)


def _harmless(text: str) -> str:
    """Without control characters: file names and labels come from strangers and may steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress_bar(quiet: bool) -> "Iterator[Progress]":
    """A Progress: a bar with rate and time left on a terminal, a line now and then elsewhere."""
    if quiet:
        from assay._types import silent  # NumPy comes with it, and help does without

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
        starts = Starts()

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = int(bars.add_task(stage, total=total, rate=""))
            task, start = tasks[stage], starts.of(stage, done)
            rate = done / max(time.monotonic() - start, 1e-6)
            shown = f"{rate:,.0f}/s" if rate >= 10 else ""
            bars.update(task, total=total, completed=done, rate=shown)  # type: ignore[arg-type]  # rich's TaskID is an int

        yield advance


@dataclass
class Starts:
    """When each stage began; one that counts from the beginning again begins again."""

    seen: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Stage -> when its first items were finished, and how many there are now."""

    def of(self, stage: str, done: int) -> float:
        """When the stage began of which ``done`` items are finished now."""
        start, before = self.seen.get(stage, (0.0, done + 1))
        start = start if before <= done else time.monotonic()
        self.seen[stage] = start, done
        return start


@dataclass
class Lines:
    """Progress where there is no terminal."""

    starts: Starts = field(default_factory=Starts)
    last: float = field(default_factory=time.monotonic)
    """When something was last said."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far it is, unless that was done a moment ago."""
        now = time.monotonic()
        spent = now - self.starts.of(stage, done)
        if now - self.last < SHOW_EVERY_S or spent <= 0:
            return
        self.last = now
        left = spent / done * (total - done)
        rate = f", {done / spent:,.0f} a second" if done >= spent else ""
        say(f"{stage}: {done:,} of {total:,}{rate}, {left:,.0f} s left")


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


def percent(share: float) -> str:
    """``0.9036`` as ``90.4 %``."""
    return f"{100 * share:.1f} %"


def percent_range(low: float, high: float) -> str:
    """``0.9, 0.905`` as ``90.0 to 90.5``."""
    return f"{100 * low:.1f} to {100 * high:.1f}"
