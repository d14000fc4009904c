"""Who works in a folder: one at a time, and only where the files are our own."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay.data.write import UNFINISHED_NAME, write_text_atomic
from assay.errors import BusyError, OtherRunError, UsageError, explain_write_errors

LOCKS = {"run": (".lock", ".pid"), "comparison": (".compare.lock", ".compare.pid")}
"""What holds a folder -> its lock, and the file that names its process. A comparison holds the folder
beside the run that it starts in it."""


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Make the folder and keep others of the kind out; the lock of a killed one falls with its process.

    Parameters
    ----------
    what : a key of ``LOCKS``

    Raises
    ------
    BusyError : another one holds the folder; the message names its process
    """
    lock_name, pid_name = LOCKS[what]
    pid, lock = path / pid_name, FileLock(path / lock_name)
    with explain_write_errors(path, advice="choose another folder with --out"):
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise BusyError(
                f"{path}: another {what} (process {_text(pid) or 'unknown'}) holds this folder; "
                "wait for it, or name another folder with --out"
            ) from None
    # Apart from acquiring: a Timeout of something inside is not ours to explain.
    try:
        write_text_atomic(pid, str(os.getpid()))
        yield
    finally:
        pid.unlink(missing_ok=True)
        lock.release()


def check_outside(folder: Path, images: Path) -> None:
    """UsageError if the results would lie among the images, and count as such."""
    if images.is_dir() and folder.resolve().is_relative_to(images.resolve()):
        raise UsageError(f"{folder}: expected a folder outside {images}, where results would count as images")


def read_record(file: Path, schema: int) -> dict[str, Any]:
    """The JSON object in ``file`` that says what was done in its folder; empty when there is none.

    Raises
    ------
    OtherRunError : something that this version of assay did not write
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema") != schema:
        raise OtherRunError(
            f"{file}: expected what this version of assay writes, got something else; "
            "name another folder with --out"
        )
    return found


def sweep(folder: Path) -> None:
    """Delete the half files of something that was killed while it wrote; nobody may be writing there now."""
    for file in folder.glob(".*.tmp"):
        if UNFINISHED_NAME.fullmatch(file.name):
            file.unlink()


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
