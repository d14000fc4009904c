"""One function in a process of its own: its memory and its time are its own, and so is its death.

The two sides talk through a pipe, in JSON: the child says how far it is, then what it found or why not.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from assay.errors import AssayError, ResourceError, is_disk_full, is_out_of_memory
from assay.types import Notify, Progress, ignore_message, silent

Work = Callable[[Any, Notify, Progress], Mapping[str, Any]]
"""A function of a module, with an argument that can be sent; what it gives back must be plain JSON."""

GRACE_S = 5.0
"""From asking a child to end until it is killed; nothing that it leaves on disk is half a file."""

BUG = 1


@dataclass(frozen=True)
class Failure:
    """Why a process has no result."""

    message: str
    exit_code: int
    """As in ``_errors.py``."""


def run_apart(
    work: Work, argument: object, *, notify: Notify = ignore_message, progress: Progress = silent
) -> dict[str, Any] | Failure:
    """``work(argument, say, progress)`` in a new process that shares nothing with this one.

    Whatever ends this process or leaves this call ends the child too. What the child prints goes to
    stderr.
    """
    # spawn: a forked child would count this process's memory, and may hang on locks of its threads.
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_live, args=(sender, work, argument))
    try:
        with _interrupt_waits():
            child.start()
        sender.close()  # what the child has of it stays open, so its death ends the pipe
        found = _listen(receiver, notify, progress)
        child.join(GRACE_S)
    finally:
        _end(child)
        receiver.close()
    return _death(child.exitcode) if found is None else found


@contextmanager
def _interrupt_waits() -> Iterator[None]:
    """What is started inside has Ctrl-C blocked until it can ignore it: it would die of it in many lines."""
    if not hasattr(signal, "pthread_sigmask"):
        yield  # Windows
        return
    resource_tracker.ensure_running()  # the first start begins with this, which would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(pipe: Connection, notify: Notify, progress: Progress) -> dict[str, Any] | Failure | None:
    """What the child found, or why not; None if it ended without a word."""
    while True:
        try:
            kind, what = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        if kind == "progress":
            progress(*what)
        elif kind == "say":
            notify(what)
        elif kind == "failed":
            return Failure(**what)
        else:
            return dict(what)


def _end(child: BaseProcess) -> None:
    if child.pid is None:
        return
    if child.is_alive():
        child.terminate()
        child.join(GRACE_S)
    if child.is_alive():
        child.kill()
    child.join()


def _death(code: int | None) -> Failure:
    """In words, the end of a child that could not say anything any more."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            why = f"its process was killed ({name}), as the system does when memory runs out"
            return Failure(why, ResourceError.exit_code)
        return Failure(f"its process died of {name}", BUG)
    return Failure(f"its process ended without a word, with exit code {code}", BUG)


@dataclass(frozen=True)
class _Messages:
    """The child's end of the pipe; any thread may speak."""

    pipe: Connection
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, kind: str, what: Any) -> None:
        with self.lock:
            try:
                self.pipe.send_bytes(json.dumps([kind, what]).encode())
            except BrokenPipeError:
                os._exit(BUG)  # nobody listens any more

    def notify(self, line: str) -> None:
        self.send("say", line)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.send("progress", [stage, done, total])


def _live(pipe: Connection, work: Work, argument: object) -> None:
    """The child's whole life."""
    # Ctrl-C in a terminal reaches parent and child; the parent alone decides, and says so by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    messages = _Messages(pipe)
    try:
        found = dict(work(argument, messages.notify, messages.progress))
    except BaseException as error:  # noqa: BLE001  # every end is told to the parent
        failure = _explained(error)
        messages.send("failed", {"message": failure.message, "exit_code": failure.exit_code})
    else:
        messages.send("done", found)


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
        return Failure(f"no room to write: {error.strerror}", ResourceError.exit_code)
    traceback.print_exception(error)
    return Failure(f"a bug in assay: {type(error).__name__}: {error}", BUG)
