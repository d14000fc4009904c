"""Names of files that came from outside: which may be opened, how, and in which order.

A name from a table, an archive or a folder is hostile until shown otherwise. It is judged as text
before anything is opened, resolved, checked to lie below its root, and opened once; what is decoded
and hashed later is the bytes read here. A hard link cannot be told from a file, so a hard link to a
file elsewhere is read like any other: only pixels that decode are ever used, and bytes are never shown.
"""

import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from assay.data.dataset import Skipped

_FORBIDDEN = re.compile(
    r"""(?P<empty>\A\Z)
    |(?P<NUL>\0)
    |(?P<drive>\A[A-Za-z]:)
    |(?P<URL>\A(?:[A-Za-z][A-Za-z0-9+.-]*:[\\/]{2}|(?:data|file):))
    |(?P<absolute>\A[\\/])
    |(?P<parent>(?:\A|[\\/])\.\.(?:[\\/]|\Z))""",
    re.VERBOSE,
)
_WORDS = {
    "empty": "an empty path",
    "NUL": "a NUL character",
    "drive": "a drive letter",
    "URL": "a URL",
    "absolute": "an absolute path",
    "parent": "a '..' part",
}
_DIGITS = re.compile(r"[0-9]+")

_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: a FIFO without a writer would hang the run. O_NOFOLLOW: the path is resolved already, so
a link here was put in place since."""

_REASONS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ELOOP: "symlink_loop",
    errno.ENAMETOOLONG: "bad_path",
    errno.EINVAL: "bad_path",
    errno.ENXIO: "not_regular",
}


class NaturalKey(NamedTuple):
    """Sorts names as a person would; two different names never compare equal."""

    text: str
    """The name, before each number a NUL and how many digits it has without leading zeros."""
    name: str
    """Decides between ``1.png`` and ``01.png``."""


def natural_key(name: str) -> NaturalKey:
    """Sort key for natural order: ``2.png`` before ``10.png``.

    Any str will do, surrogates and numbers of any length included: digits are compared as text, since
    ``int`` refuses more than 4,300 of them. One str rather than parts: millions of keys must fit in memory.
    """
    return NaturalKey(_DIGITS.sub(_counted, name), name)


def _counted(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\0{chr(min(len(digits), sys.maxunicode))}{digits}"


def check_entry(entry: str) -> Skipped | None:
    r"""None if the text of ``entry`` may name a file below a root, else ``bad_path``.

    Both ``/`` and ``\`` separate parts. Absolute paths, drive letters, UNC names, URLs, NUL and ``..``
    are refused, and nothing is opened to find out.
    """
    found = _FORBIDDEN.search(entry)
    if found is None:
        return None
    word = _WORDS[str(found.lastgroup)]
    return Skipped("bad_path", f"expected a path below the images, got {word}: {entry[:200]!r}")


def open_regular(root: Path, entry: str, *, follow_symlinks: bool = False, max_bytes: int) -> bytes | Skipped:
    """The bytes of the regular file ``entry`` below ``root``, read once.

    Parameters
    ----------
    entry : relative to ``root``, ``/`` between parts
    follow_symlinks : let a link lead out of ``root``; links that stay inside are always followed
    max_bytes : a longer file is not read

    Skipped : ``bad_path``, ``missing``, ``outside_root``, ``symlink_loop``, ``permission``,
    ``not_regular``, ``too_large``, ``changed``, ``unreadable``
    """
    return _with_regular(root, entry, follow_symlinks, lambda file: _read_all(file, entry, max_bytes))


def peek_regular(root: Path, entry: str, n_bytes: int, *, follow_symlinks: bool = False) -> bytes | Skipped:
    """The first ``n_bytes`` of the regular file ``entry`` below ``root``, opened as ``open_regular`` does."""
    return _with_regular(root, entry, follow_symlinks, lambda file: os.read(file, n_bytes))


def resolve_below(root: Path, entry: str, *, follow_symlinks: bool = False) -> str | Skipped:
    """The real path of ``entry``, free of links, that lies below the real path of ``root``."""
    bad = check_entry(entry)
    if bad is not None:
        return bad
    try:
        base = os.path.realpath(root, strict=True)
        resolved = os.path.realpath(f"{base}/{entry}", strict=True)
    except OSError as error:
        return _skipped_by(error, entry)
    except ValueError as error:  # a NUL in the name of a folder
        return Skipped("bad_path", f"{str(root)!r}: {error}")
    # Both are real paths, so comparing with the separator compares whole parts; /a/bc is not below /a/b.
    if follow_symlinks or resolved.startswith(base.rstrip("/") + "/"):
        return resolved
    return Skipped("outside_root", f"{entry!r} is a link that leaves the folder of images")


def _with_regular(
    root: Path, entry: str, follow_symlinks: bool, read: Callable[[int], bytes | Skipped]
) -> bytes | Skipped:
    """What ``read`` makes of the open descriptor, if it is one of a regular file."""
    resolved = resolve_below(root, entry, follow_symlinks=follow_symlinks)
    if isinstance(resolved, Skipped):
        return resolved
    try:
        descriptor = os.open(resolved, _OPEN_FLAGS)
    except OSError as error:
        return _skipped_by(error, entry)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Skipped("not_regular", f"{entry!r} is not a regular file")
        return read(descriptor)
    except OSError as error:
        return _skipped_by(error, entry)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, entry: str, max_bytes: int) -> bytes | Skipped:
    size = os.fstat(descriptor).st_size
    if size > max_bytes:
        return Skipped("too_large", f"{entry!r} has {size:,} bytes, the limit is {max_bytes:,}")
    data = os.read(descriptor, size + 1)
    # One call may give a part: of 2 GiB and more, and on network disks.
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    if len(data) != size:
        return Skipped("changed", f"{entry!r} changed its size while it was being read")
    return data


def _skipped_by(error: OSError, entry: str) -> Skipped:
    """The reason code of what the operating system said."""
    reason = _REASONS.get(error.errno or 0, "unreadable")
    return Skipped(reason, f"{entry!r}: {error.strerror or error}")
