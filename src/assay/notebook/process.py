"""One function in a process of its own, with its own memory, time and death.

The child reports through a pipe, in JSON: lines for the user, progress, then that it is done, or why not.
It imports little besides the function: what it holds is counted as the function's.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from assay.errors import AssayError, ResourceError, is_disk_full, is_out_of_memory
from assay.types import Notify, Progress, ignore_message, silent

Work = Callable[[Any, Notify, Progress], None]
"""A function of a module, so that a new process can import it."""

GRACE_S = 5.0
"""From asking a child to end until it is killed."""

BUG = 1
"""Exit code of what should not happen."""


@dataclass(frozen=True)
class Failure:
    """Why a process did not do its work."""

    message: str
    exit_code: int


def run_apart(
    work: Work, argument: object, *, notify: Notify = ignore_message, progress: Progress = silent
) -> Failure | None:
    """``work(argument, notify, progress)`` in a new process that shares nothing with this one.

    The child ends when this process ends, however it does, or leaves this call. Its prints go to stderr.
    """
    # spawn: a forked child would count this process's memory, and may hang on locks of its threads.
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_live, args=(sender, work, argument))
    try:
        with _interrupts_blocked():
            child.start()
        sender.close()  # the child's copy stays open, so its death ends the pipe
        while True:
            try:
                kind, what = json.loads(receiver.recv_bytes())
            except (EOFError, OSError):
                child.join(GRACE_S)
                break  # its exit code explains
            if kind == "progress":
                progress(*what)
            elif kind == "notify":
                notify(what)
            else:
                child.join(GRACE_S)
                return Failure(**what) if kind == "failed" else None
    finally:
        if child.pid is not None:  # it was started
            child.terminate()
            child.join(GRACE_S)
            child.kill()
            child.join()
        receiver.close()
    code = child.exitcode
    if code == -getattr(signal, "SIGKILL", 9):  # Windows has none
        why = "its process was killed (SIGKILL), as the system does when memory runs out"
        return Failure(why, ResourceError.exit_code)
    if code is not None and code < 0:
        return Failure(f"its process died of {signal.Signals(-code).name}", BUG)
    return Failure(f"its process exited without a result, with exit code {code}", BUG)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that is started inside has Ctrl-C blocked until it ignores it: it would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield  # Windows
        return
    resource_tracker.ensure_running()  # the first start begins with this, which would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(pipe: Connection, work: Work, argument: object) -> None:
    """The child's whole life."""
    # Ctrl-C in a terminal reaches parent and child: the parent alone decides, and ends the child by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()  # any thread may report

    def send(kind: str, what: Any) -> None:
        with lock:
            try:
                pipe.send_bytes(json.dumps([kind, what]).encode())
            except BrokenPipeError:
                os._exit(BUG)  # the parent is gone

    def notify(line: str) -> None:
        send("notify", line)

    def progress(stage: str, done: int, total: int) -> None:
        send("progress", [stage, done, total])

    try:
        work(argument, notify, progress)
    except BaseException as error:  # noqa: BLE001  # the parent reports every end
        send("failed", asdict(_explained(error)))
    else:
        send("done", None)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(BUG)  # at once: files are whole at any moment


def _explained(error: BaseException) -> Failure:
    if isinstance(error, AssayError):
        return Failure(str(error), error.exit_code)
    if is_out_of_memory(error):
        return Failure("out of memory", ResourceError.exit_code)
    if is_disk_full(error):
        return Failure(f"no disk space: {error.strerror}", ResourceError.exit_code)
    traceback.print_exception(error)
    return Failure(f"a bug in assay: {type(error).__name__}: {error}", BUG)
