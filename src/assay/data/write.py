"""Files that appear whole or not at all, and tables that read back byte for byte.

A file is written beside its place, brought to disk and renamed, so a killed run leaves the old file or
the new one. What is no regular file (``/dev/stdout``, a pipe) is written straight through.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.errors import ResourceError, UsageError
from assay.shortage import is_disk_full

UNFINISHED_NAME = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""The name of a file until it is whole; other hidden files are the user's."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def make_folder(folder: Path) -> None:
    """Make ``folder``, and those above it.

    Raises
    ------
    UsageError : it cannot be made
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}; choose another place") from error


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``; on any failure what was there before stays as it was.

    Raises
    ------
    ResourceError : the disk or a limit on file size is reached; names the path and the bytes needed
    UsageError : the place cannot be written to
    """
    with refused(path, len(data)):
        if path.exists() and not path.is_file():
            _write_through(path, data)
        else:
            _replace(path, data)


def write_text_atomic(path: Path, text: str) -> None:
    """``write_bytes_atomic`` in UTF-8; surrogate escapes become the bytes that they stand for."""
    write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` as JSON: sorted keys, indent 1, UTF-8, numbers with all their digits.

    Raises
    ------
    ValueError : a NaN or an infinity, which JSON does not have
    """
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, indent=1, default=plain_value
    )
    write_text_atomic(path, escape_surrogates(text) + "\n")


def plain_value(value: Any) -> Any:
    """NumPy arrays and numbers as Python's own; what ``json`` calls for types that it does not know."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"expected text, numbers, lists and dicts, got {type(value).__name__}")


def is_unicode(text: str) -> bool:
    """Whether it has no half surrogates, such as bytes that are not UTF-8."""
    return _SURROGATE.search(text) is None


def escape_surrogates(text: str) -> str:
    r"""JSON text in which half surrogates, such as bytes that are not UTF-8, are ``\udcxx`` escapes."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        _write_all(file.fileno(), data)


def _replace(path: Path, data: bytes) -> None:
    # A link at ``path`` is replaced, not followed: who plants one must not choose what is overwritten.
    # The name does not grow with that of the file, which may have the longest name there can be.
    beside = path.parent / f".{secrets.token_hex(8)}.tmp"
    with _removed_on_failure(beside):
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.replace(path)
    sync_folder(path.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C too must leave nothing behind
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring the renaming itself to disk, where the file system knows how."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def refused(path: Path, needed: int) -> Iterator[None]:
    """Inside, the operating system's refusal to write ``needed`` bytes to ``path`` becomes ours.

    Raises
    ------
    ResourceError : the disk or a limit on file size is reached
    UsageError : the place cannot be written to
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if is_disk_full(error):
            raise ResourceError(
                f"cannot write {path}: {error.strerror}; it needs {needed:,} bytes: "
                "make room and run it again"
            ) from error
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another place") from error
