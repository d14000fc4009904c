"""Processes that decode: an image that hangs a decoder, or crashes it, costs that image and not the run.

Each reads requests from its stdin and answers on its stdout (``data.decoder_process``). It ends with the
process that began it, however that ends, for its stdin is closed then.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from queue import LifoQueue
from subprocess import DEVNULL, PIPE
from threading import Event, Lock, Thread
from typing import IO

from assay._errors import ResourceError
from assay.data.dataset import Skipped
from assay.data.decoder_messages import GREETING, pack_request, read_answer
from assay.data.forms import Asked, Made, Make, make_squares

LIMIT_S = 60.0
"""For one image: the largest usual ones, of 50 megapixels, take about two."""

START_S = 60.0
"""Until a process must have greeted."""

# Without the folder that the user is in, where anybody may have put a numpy.py.
COMMAND = (sys.executable, "-P", "-c", "from assay.data.decoder_process import main; main()")

TRIES = 2
"""Of an image that a decoder did not survive, or not in time."""

KILLED = -9
"""Status of a process that was killed."""

PATIENCE_S = 5.0
"""Until one that nobody asks any more is killed."""


@contextlib.contextmanager
def decoders(number: int, command: Sequence[str] = COMMAND, limit_s: float = LIMIT_S) -> Iterator[Make]:
    """``make_squares``, done by up to ``number`` processes for as many threads; each starts when needed.

    What they do not survive is Skipped as ``crash`` or ``timeout``. Where no process can be started, the
    threads decode themselves. What is given raises MemoryError if a decoder has no memory left, and
    ResourceError if it was killed from outside, as systems do then.
    """
    every = [_Decoder(command, limit_s) for _ in range(max(number, 1))]
    free: LifoQueue[_Decoder] = LifoQueue()
    for decoder in every:
        free.put(decoder)

    def make(data: bytes, asked: Asked) -> Made | Skipped:
        decoder = free.get()
        try:
            return decoder.make(data, asked)
        finally:
            free.put(decoder)

    over = Event()
    watch = Thread(target=_watch, args=(every, over, limit_s / 8), name="watch decoders", daemon=True)
    watch.start()
    try:
        yield make
    finally:
        over.set()
        watch.join()
        for decoder in every:
            decoder.end()


def _watch(every: "Sequence[_Decoder]", over: Event, pause_s: float) -> None:
    """Kill those that are late, until it is over."""
    while not over.wait(pause_s):
        for decoder in every:
            decoder.kill_if_late()


@dataclass(frozen=True)
class _Process:
    """A decoder that runs, and its pipes."""

    popen: "subprocess.Popen[bytes]"
    requests: IO[bytes]
    answers: IO[bytes]


@dataclass
class _Decoder:
    """A place for one process, used by one thread at a time."""

    command: Sequence[str]
    limit_s: float
    process: _Process | None = field(default=None, init=False)
    impossible: bool = field(default=False, init=False)
    """Whether none can be started here."""
    deadline: float = field(default=inf, init=False)
    """When what it was asked must be answered, by the monotonic clock."""
    late: bool = field(default=False, init=False)
    """Whether it was killed for that."""
    lock: Lock = field(default_factory=Lock, init=False)
    """Of the deadline: nothing is killed that has just answered."""

    def make(self, data: bytes, asked: Asked) -> Made | Skipped:
        """See ``decoders``."""
        request, died = pack_request(data, asked), Skipped("crash")
        for _ in range(TRIES):
            process = self._running()
            if process is None:
                return make_squares(data, asked)
            answer = self._answer(process, request, asked)
            if answer is None or self.late:
                died = self._died()
            if answer is not None:
                return answer
        return died

    def _answer(self, process: _Process, request: bytes, asked: Asked) -> Made | Skipped | None:
        """None if the process did not survive it, or not in time."""
        with self._in_time(self.limit_s), contextlib.suppress(OSError, EOFError):
            process.requests.write(request)
            process.requests.flush()
            return read_answer(process.answers, asked)
        return None

    def _running(self) -> _Process | None:
        """A process that waits for requests; None if none can be had."""
        if self.process is None and not self.impossible:
            self.process = self._start()
            self.impossible = self.process is None
        return self.process

    def _start(self) -> _Process | None:
        if not self.command[0] or getattr(sys, "frozen", False):
            return None  # what runs here is no Python that could be started again
        try:
            # In a session of its own: Ctrl-C is for the process that began it.
            popen = subprocess.Popen(  # noqa: S603  # this Python, and code that is written here
                self.command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
            )
        except OSError:
            return None
        assert popen.stdin is not None
        assert popen.stdout is not None
        self.process = _Process(popen, popen.stdin, popen.stdout)
        with self._in_time(START_S):
            greeting = popen.stdout.readline()
        if greeting == GREETING:
            return self.process
        self.end()
        self.late = False
        return None

    def _died(self) -> Skipped:
        """Why it is gone.

        ResourceError : it was killed from outside
        """
        late, self.late, status = self.late, False, self.end()
        if late:
            return Skipped("timeout", f"not decoded in {self.limit_s:g} seconds")
        if status == KILLED:
            raise ResourceError(
                "a process that decodes images was killed from outside, as systems do when memory is full; "
                "close other programs or use fewer --workers, then give the same command again"
            )
        return Skipped("crash", f"its decoder ended with status {status}")

    @contextlib.contextmanager
    def _in_time(self, limit_s: float) -> Iterator[None]:
        """What the process does inside, it must have done in time."""
        self._expect(time.monotonic() + limit_s)
        try:
            yield
        finally:
            self._expect(inf)

    def _expect(self, deadline: float) -> None:
        with self.lock:
            self.deadline = deadline

    def kill_if_late(self) -> None:
        """Kill the process if its deadline is over."""
        with self.lock:
            if time.monotonic() > self.deadline and self.process is not None:
                self.late, self.deadline = True, inf
                self.process.popen.kill()

    def end(self) -> int | None:
        """End the process, if there is one; its exit status."""
        process, self.process = self.process, None
        if process is None:
            return None
        for pipe in (process.requests, process.answers):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            return process.popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            return process.popen.wait()
