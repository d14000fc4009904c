"""Works for a process of its own, in a module that takes no time to import: each child imports it."""

import errno
import json
import os
import signal
import time
from multiprocessing import current_process
from pathlib import Path

from assay.errors import DataError
from assay.evaluate import peak_memory_bytes

HUNGER_BYTES = 400_000_000
"""More than a quick system takes."""


def answer(argument: object, notify, progress) -> None:
    """The work of a process that goes well: it speaks, prints and says where it ran."""
    notify(json.dumps({"pid": os.getpid(), "memory": peak_memory_bytes(), "argument": argument}))
    progress("count", 1, 2)
    print("printed by the child")


def wait(pid_file: Path, notify, progress) -> None:
    """Writes its process id to a file, and does not end by itself."""
    beside = pid_file.with_suffix(".part")
    beside.write_text(str(os.getpid()))
    beside.replace(pid_file)
    time.sleep(600)
    raise AssertionError(pid_file)


def tell_and_wait(argument: object, notify, progress) -> None:
    """Reports its process id, and does not end by itself."""
    notify(str(os.getpid()))
    time.sleep(600)
    raise AssertionError(argument)


def end(how: str, notify, progress) -> None:
    """An end of each kind."""
    ends = {
        "refused": DataError("row 3: expected a label"),
        "memory": MemoryError(),
        "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "disk": OSError(errno.ENOSPC, "No space left on device"),
        "bug": KeyError("planted"),
    }
    if how in ends:
        raise ends[how]
    if how == "exits":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))
    raise AssertionError(how)


def interrupted(argument: object, notify, progress) -> None:
    """Ctrl-C reaches the child too, again and again, from the moment in which this module is imported."""
    os.kill(os.getpid(), signal.SIGINT)
    notify(f"went on with {argument}")


# In a child, which has its name before it has its work: Ctrl-C while it starts.
if current_process().name != "MainProcess":
    os.kill(os.getpid(), signal.SIGINT)
