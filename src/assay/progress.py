"""What a person reads while work goes on: lines on stderr, and how far a step is."""

import html
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from assay.types import Progress

LINE_EVERY_S = 10.0
"""Without a terminal, progress is a line this often, so that a log shows that the command is alive."""

REDRAWN_EVERY_S = 0.25
"""In a notebook, where each change is a message to the browser."""

RECENT_S = 20.0
"""Rates are those of so many last seconds: items found in a cache must not count for long."""


def notify(text: str) -> None:
    """Print a line on stderr; if its reader is gone, work goes on in silence."""
    try:
        print(escaped(text), file=sys.stderr, flush=True)  # noqa: T201  # what this file is for
    except BrokenPipeError:
        redirect_to_devnull(sys.stderr)


def redirect_to_devnull(stream: TextIO) -> None:
    """Write nothing more to a stream that nobody reads."""
    # Closing it is not enough: Python flushes it at exit, which would fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def escaped(text: str) -> str:
    """``text`` without signs that steer a terminal, which names and labels from strangers may have."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # Who has not loaded IPython is not in a notebook: it must not be imported for that.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def on_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress_bar(quiet: bool) -> "Iterator[Progress]":
    """Progress as a bar with rate and time left in a notebook or on a terminal, elsewhere as a line now and
    then.
    """
    if quiet:
        yield lambda *_: None
    elif in_notebook():
        with _notebook_bar() as progress:
            yield progress
    elif on_terminal():
        with _terminal_bars() as progress:
            yield progress
    else:
        yield _lines()


def _lines() -> "Progress":
    rates, last = Rates(), time.monotonic()

    def line(stage: str, done: int, total: int) -> None:
        nonlocal last
        now, rate = time.monotonic(), rates.update(stage, done)
        if now - last < LINE_EVERY_S or rate <= 0:
            return
        last = now
        notify(f"{stage}: {_how_far(done, total, rate)}")

    return line


@contextmanager
def _terminal_bars() -> "Iterator[Progress]":
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


@contextmanager
def _notebook_bar() -> "Iterator[Progress]":
    """One bar, of the step that is under way, which vanishes at the end."""
    # Plain HTML: the bars of rich and tqdm need ipywidgets on both sides.
    page: Any = import_module("IPython.display")
    handle = page.display(page.HTML(""), display_id=True)
    rates, last = Rates(), 0.0

    def advance(stage: str, done: int, total: int) -> None:
        nonlocal last
        now, rate = time.monotonic(), rates.update(stage, done)
        if now - last < REDRAWN_EVERY_S and done < total:
            return
        last = now
        bar = f'<progress value="{done}" max="{total}"></progress>'
        handle.update(page.HTML(f"{html.escape(stage)} {bar} {_how_far(done, total, rate)}"))

    try:
        yield advance
    finally:
        handle.update(page.HTML(""))


def _how_far(done: int, total: int, rate: float) -> str:
    text = f"{done:,} of {total:,}"
    if rate >= 1:
        text += f", {rate:,.0f} per second"
    return f"{text}, {(total - done) / rate:,.0f} s left" if rate > 0 else text


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
