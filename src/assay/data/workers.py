"""Worker processes that decode: an image that hangs or crashes a decoder costs that image, not the run."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import spawn, util
from multiprocessing.context import SpawnContext, SpawnProcess
from queue import LifoQueue
from threading import Lock
from typing import Any, ClassVar, Self, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from assay.data.files import Skipped
from assay.errors import ResourceError

T = TypeVar("T")

LIMIT_S = 60.0  # CPU time of one image: the largest allowed ones, of 50 megapixels, take about two seconds
CLOCK_TIMES = 10  # times that limit which it may take by the clock: the machine may be busy with other work
START_S = 60.0  # a worker that has not answered by then cannot be started here

WORKER_ENDED = ("timeout", "crash")
"""Reasons to skip images that ended their workers."""

# What ends a worker by its own fault, or that of the image.
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGTRAP")


class DecoderPool:
    """Up to ``number`` worker processes, each started when it is needed; threads may share the pool."""

    def __init__(self, number: int, limit_s: float = LIMIT_S) -> None:
        self._workers = [_Worker(limit_s) for _ in range(max(number, 1))]
        self._free: LifoQueue[_Worker] = LifoQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._can_start = bool(sys.executable) and not getattr(sys, "frozen", False)

    def map(self, function: Callable[[bytes], T | Skipped], files: Sequence[bytes]) -> list[T | Skipped]:
        """``function(data)`` of each file, by one worker; Skipped as ``timeout`` or ``crash`` if it dies.

        The files of a worker that died are tried once more, each alone. Where no process can be started, the
        calling thread does the work.

        Parameters
        ----------
        function : a function of a module, or a partial of one
        """
        worker = self._free.get()
        try:
            if self._can_start and not worker.start():
                self._can_start = False
            if not self._can_start:
                return [function(data) for data in files]
            found = worker.run(function, files)
            if not isinstance(found, Skipped):
                return found
            if len(files) == 1 and found.reason == "timeout":
                return [found]  # a second try would take as long
            # A thread must not try what has ended a worker, even if no other worker can be started now.
            alone = (worker.run(function, [data]) if worker.start() else found for data in files)
            return [died if isinstance(died, Skipped) else died[0] for died in alone]
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the workers, whatever they do; threads that wait for a result get a RuntimeError."""
        for worker in self._workers:
            worker.closed = True  # before its task ends: no other may begin
            if (task := worker.task) is not None:
                task.cancel()  # type: ignore[no-untyped-call]  # pebble's
        held = [self._free.get() for _ in self._workers]
        for worker in held:
            worker.stop()
        for worker in held:  # all were stopped before the first is waited for
            worker.join()
            self._free.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """A place for one process, used by one thread at a time.

    It is a pebble pool of one: in a larger pool, the task of a process that crashes at once can be lost while
    another process is busy.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.pool: ProcessPool | None = None
        self.task: ProcessFuture[Any] | None = None
        self.closed = False

    def start(self) -> bool:
        """Whether a process is ready, after starting one if there is none."""
        self._check_open()
        if self.pool is None:
            self.pool = ProcessPool(1, initializer=_prepare, context=_Context())
            try:
                self.pool.schedule(os.getpid).result(START_S)
            except (OSError, RuntimeError):  # no process, or one that ends or does not answer
                self._drop()
        return self.pool is not None

    def run(
        self, function: Callable[[bytes], T | Skipped], files: Sequence[bytes]
    ) -> list[T | Skipped] | Skipped:
        """The results; or one Skipped, why the process died."""
        self._check_open()
        assert self.pool is not None
        by_clock_s = CLOCK_TIMES * self.limit_s
        try:
            self.task = self.pool.schedule(_run_each, (function, files, self.limit_s), timeout=by_clock_s)
            self._check_open()  # closed meanwhile, before there was a task to cancel
            found: list[T | Skipped] = self.task.result()
            return found
        except ProcessExpired as error:
            status = error.exitcode
        except TimeoutError:
            return Skipped("timeout", f"not decoded in {by_clock_s:g} s")
        except BrokenProcessPool:  # it died before pebble noticed that it had begun
            self._drop()
            return Skipped("crash", "its decoder ended")
        except CancelledError:
            self._check_open()
            raise
        finally:
            self.task = None
        self._check_open()  # closing ends processes too
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
        if name == "SIGPROF":
            return Skipped("timeout", f"not decoded in {self.limit_s:g} s of CPU time")
        if name in _CRASHES or sys.platform == "win32":
            return Skipped("crash", f"its decoder ended with {name}")
        if status >= 0:
            raise RuntimeError(f"a process that decodes images ended with {name}")
        raise ResourceError(
            f"a process that decodes images was killed from outside ({name}), as systems do when memory is "
            "full; close other programs or use fewer --workers, then run the same command again"
        )

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the images are not needed any more")

    def _drop(self) -> None:
        self.stop()
        self.join()
        self.pool = None

    def stop(self) -> None:
        if self.pool is not None:
            self.pool.stop()  # type: ignore[no-untyped-call]  # pebble's

    def join(self) -> None:
        if self.pool is not None:
            self.pool.join()


class _Process(SpawnProcess):
    """A process that neither runs the user's main module again, nor imports what lies in the current folder.

    The main module may lack ``if __name__ == "__main__"``, and the current folder may hold strangers' files.
    multiprocessing has no option for either, so the command line of the process is changed.
    """

    _starting: ClassVar[Lock] = Lock()

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802  # multiprocessing's name
        with _Process._starting:
            usual = spawn.get_command_line
            spawn.get_command_line = _command_line
            try:
                return SpawnProcess._Popen(process)
            finally:
                spawn.get_command_line = usual


class _NoLock:
    """The lock of a channel that one process uses."""

    # A real one would be a named semaphore: not to be had everywhere, and left behind after SIGKILL.

    def acquire(self, **_: object) -> bool:
        return True

    def release(self) -> None:
        pass


class _Context(SpawnContext):
    Process = _Process

    def RLock(self) -> Any:  # noqa: N802  # multiprocessing's name
        return _NoLock()


def _command_line(**pipes: Any) -> list[str]:
    """As multiprocessing's own, with one BLAS thread: numpy would start one for each core."""
    given = ", ".join(f"{name}={value!r}" for name, value in pipes.items())
    program = (
        "import os; os.environ.update(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1'); "
        "from multiprocessing import spawn; "
        "spawn._fixup_main_from_name = spawn._fixup_main_from_path = lambda main: None; "
        f"spawn.spawn_main({given})"
    )
    flags: Iterable[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]  # the same
    return [os.fsdecode(spawn.get_executable()), *flags, "-P", "-c", program, "--multiprocessing-fork"]


def _prepare() -> None:
    """In a new worker."""
    with contextlib.suppress(ImportError, OSError):
        import resource  # Windows has neither this nor the two below

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file among the user's
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        os.setsid()  # Ctrl-C and a closed terminal are for the process that started it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it even inside a decoder
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # a decoder's own words, and a pipe that would stay open after its reader's end
        os.dup2(nowhere, stream)


def _run_each(
    function: Callable[[bytes], T | Skipped], files: Sequence[bytes], limit_s: float
) -> list[T | Skipped]:
    """In a worker: each file with a limit of CPU time, which ends the process even inside a decoder."""
    limited = hasattr(signal, "setitimer")  # not on Windows
    found = []
    try:
        for data in files:
            if limited:
                signal.setitimer(signal.ITIMER_PROF, limit_s)
            found.append(function(data))
    finally:
        if limited:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return found
