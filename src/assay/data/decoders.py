"""Processes that decode: an image that hangs a decoder, or crashes it, costs that image and not the run.

Each reads requests from its stdin and answers on its stdout (``data.decoder_process``). It counts the time
that an image takes itself, so it ends even where the process that began it was killed meanwhile.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import LifoQueue
from typing import IO

from assay.data.dataset import Skipped
from assay.data.decoder_messages import GREETING, NO_MEMORY, REAL_TIMES, pack_request, read_answer
from assay.data.forms import DecodedImage, DecodeOptions, Make, make_squares
from assay.errors import ResourceError

FEW = 2000
"""Images for which no process is begun: small ones take no longer than that."""

LIMIT_S = 60.0
"""For one image, of processor time: the largest usual ones, of 50 megapixels, take about two."""

START_S = 60.0
"""Until a process must have greeted."""

# Found as this process finds it, whatever the user's folder holds: anybody may have put a numpy.py there.
BEGIN = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from assay.data.decoder_process import main
main(float(sys.argv[1]))
"""

TRIES = 2
"""Of an image that its decoder did not survive."""

ENDED = ("timeout", "crash")
"""Reasons to skip images that ended their decoders."""

TOO_LONG = -getattr(signal, "SIGPROF", 0) or None
"""Status of a decoder whose image took too much of the processor, as it would again; by the clock it may not,
for the whole machine may have stood still."""

CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGTRAP")
"""Signals by which a decoder ends by its own fault, or that of the image."""


@contextlib.contextmanager
def decoders_for(n_images: int, number: int) -> Iterator[Make]:
    """``decoders`` where there are many images, else the threads themselves."""
    if n_images <= FEW:
        yield make_squares
        return
    with decoders(number) as make:
        yield make


@contextlib.contextmanager
def decoders(number: int, limit_s: float = LIMIT_S, begin: str = BEGIN) -> Iterator[Make]:
    """``make_squares``, done by up to ``number`` processes for as many threads; each starts when needed.

    What they do not survive is Skipped as ``crash`` or ``timeout``. Where no process can be started, the
    threads decode themselves.

    What is given raises
    --------------------
    MemoryError : a decoder has none left
    ResourceError : a decoder was ended from outside, as systems do when memory is full
    RuntimeError : what would be a bug anywhere; or it is too late, those who asked are gone
    """
    python = [sys.executable, "-P", "-c", begin, str(limit_s), json.dumps(_import_path())]
    can_start = bool(sys.executable) and not getattr(sys, "frozen", False)
    every = [_Decoder(python, limit_s, possible=can_start) for _ in range(max(number, 1))]
    free: LifoQueue[_Decoder] = LifoQueue()
    for decoder in every:
        free.put(decoder)

    def make(data: bytes, asked: DecodeOptions) -> DecodedImage | Skipped:
        decoder = free.get()
        try:
            return decoder.make(data, asked)
        finally:
            free.put(decoder)

    try:
        yield make
    finally:
        # Killed first: who waits for an answer, perhaps of an image that hangs, waits no longer.
        for decoder in every:
            decoder.close()
        for decoder in [free.get() for _ in every]:
            decoder.end()
            free.put(decoder)


def _import_path() -> list[str]:
    """Where this process finds modules, but for the folder that it happens to be in."""
    return [entry for entry in sys.path if Path(entry).is_absolute()]


@dataclass(frozen=True)
class _Process:
    """A decoder that runs, and its pipes."""

    popen: "subprocess.Popen[bytes]"
    requests: IO[bytes]
    answers: IO[bytes]


@dataclass
class _Decoder:
    """A place for one process, used by one thread at a time."""

    python: Sequence[str]
    limit_s: float
    possible: bool
    """Whether a process can be started here, as far as is known."""
    process: _Process | None = field(default=None, init=False)
    closed: bool = field(default=False, init=False)

    def make(self, data: bytes, asked: DecodeOptions) -> DecodedImage | Skipped:
        """See ``decoders``."""
        died: Skipped | None = None
        for _ in range(TRIES):
            self._check_open()
            process = self._running()
            self._check_open()  # closed while it started
            if process is None:
                # What has ended another process must not end this one.
                return died or make_squares(data, asked)
            answer = self._answer(process, data, asked)
            if answer is not None:
                return answer
            status = self.end()
            died = self._why(status)
            if status == TOO_LONG:
                break
        return died or Skipped("crash")

    def _answer(self, process: _Process, data: bytes, asked: DecodeOptions) -> DecodedImage | Skipped | None:
        """None if the process did not survive it."""
        try:
            for part in pack_request(data, asked):
                process.requests.write(part)
            process.requests.flush()
            return read_answer(process.answers, asked)
        except (OSError, EOFError):
            return None
        except BaseException:
            self.end(kill=True)  # the next one who asks must not read the rest of this answer
            raise

    def _why(self, status: int) -> Skipped:
        """What is told of an image that its decoder did not survive.

        MemoryError, ResourceError, RuntimeError : it is not the image's fault
        """
        self._check_open()
        if status == NO_MEMORY:
            raise MemoryError("a process that decodes images has no memory left")
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
        if status == TOO_LONG:
            return Skipped("timeout", f"not decoded in {self.limit_s:g} seconds of the processor")
        if name == "SIGALRM":
            return Skipped("timeout", f"not decoded in {REAL_TIMES * self.limit_s:g} seconds, twice")
        if name in CRASHES or sys.platform == "win32":
            return Skipped("crash", f"its decoder ended with {name}")
        if status >= 0:
            raise RuntimeError(f"a process that decodes images ended with {name}")
        raise ResourceError(
            f"a process that decodes images was ended from outside ({name}), as systems do when memory is "
            "full; close other programs or use fewer --workers, then give the same command again"
        )

    def _running(self) -> _Process | None:
        """A process that waits for requests; None if none can be had."""
        if self.process is None and self.possible:
            self.process = self._start()
            if self.process and not _has_greeted(self.process):
                self.end(kill=True)
                self.possible = False
        return self.process

    def _start(self) -> _Process | None:
        # One thread for each; numpy would begin one for each core.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with contextlib.suppress(OSError):  # for now there may be too many processes
            popen = subprocess.Popen(  # noqa: S603  # this Python, and code that is written here
                self.python,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the process that began it
            )
            assert popen.stdin is not None
            assert popen.stdout is not None
            return _Process(popen, popen.stdin, popen.stdout)
        return None

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the images are not wanted any more")

    def close(self) -> None:
        """Nobody may ask any more; who waits for an answer gets none."""
        self.closed = True
        process = self.process
        if process is not None:
            process.popen.kill()

    def end(self, *, kill: bool = False) -> int:
        """See that the process is gone, if there is one; its exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        if kill:
            process.popen.kill()
        for pipe in (process.requests, process.answers):
            with contextlib.suppress(OSError):
                pipe.close()
        return process.popen.wait()


def _has_greeted(process: _Process) -> bool:
    """Whether it is one of ours: with the same files, it answers in the same way."""
    if sys.platform != "win32":
        with selectors.DefaultSelector() as pipes:
            pipes.register(process.answers, selectors.EVENT_READ)
            if not pipes.select(START_S):
                return False
    return process.answers.readline(len(GREETING) + 1) == GREETING
