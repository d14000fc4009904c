"""Files that the input names: which may be opened, how, in which order, and their digests.

A name from a table, an archive or a folder is not trusted. Its text is checked before anything is opened;
then it is resolved, checked to lie below its root, and opened once: what is decoded and hashed later are the
bytes read here. A hard link cannot be told from a file, so one to a file elsewhere is read like any other;
only pixels that decode are ever used, and bytes are never shown.
"""

import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from assay.data.dataset import Skipped
from assay.data.formats import USUAL

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

# O_NONBLOCK: opening a FIFO without a writer would hang. O_NOFOLLOW: the path is resolved already, so a link
# here was planted since.
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

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


def natural_key(name: str) -> tuple[str, str]:
    """Sort key for natural order: ``2.png`` before ``10.png``; any str will do, surrogates included."""

    def counted(number: re.Match[str]) -> str:
        # By length, then as text: ``int`` refuses more than 4,300 digits.
        digits = number[0].lstrip("0")
        return f"\0{chr(min(len(digits), sys.maxunicode))}{digits}"

    # The name itself decides between ``1.png`` and ``01.png``.
    return _DIGITS.sub(counted, name), name


def check_entry(entry: str) -> Skipped | None:
    r"""None if the text of ``entry`` may name a file below a root, else ``bad_path``.

    Both ``/`` and ``\`` separate parts. Absolute paths, drive letters, UNC names, URLs, NUL and ``..`` are
    refused; nothing is opened.
    """
    found = _FORBIDDEN.search(entry)
    if found is None:
        return None
    word = _WORDS[str(found.lastgroup)]
    return Skipped("bad_path", f"expected a path below the images, got {word}: {entry[:200]!r}")


def resolve_below(root: Path, entry: str, *, follow_symlinks: bool = False) -> str | Skipped:
    """The real path of ``entry``, free of links, which lies below the real path of ``root``."""
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
    # With the separator, so that whole parts are compared: /a/bc is not below /a/b.
    if follow_symlinks or resolved.startswith(base.rstrip("/") + "/"):
        return resolved
    return Skipped("outside_root", f"{entry!r} is a link that leaves the folder of images")


def open_regular(
    root: Path,
    entry: str,
    *,
    follow_symlinks: bool = False,
    max_bytes: int = sys.maxsize,
    first_bytes: int | None = None,
) -> bytes | Skipped:
    """The bytes of the regular file ``entry`` below ``root``, read once.

    Parameters
    ----------
    entry : relative to ``root``, ``/`` between parts
    follow_symlinks : let a link lead out of ``root``; links that stay inside are always followed
    max_bytes : a longer file is not read
    first_bytes : read no more than these

    Skipped : ``bad_path``, ``missing``, ``outside_root``, ``symlink_loop``, ``permission``, ``not_regular``,
    ``too_large``, ``changed``, ``unreadable``
    """
    resolved = resolve_below(root, entry, follow_symlinks=follow_symlinks)
    if isinstance(resolved, Skipped):
        return resolved
    try:
        descriptor = os.open(resolved, _OPEN_FLAGS)
    except OSError as error:
        return _skipped_by(error, entry)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Skipped("not_regular", f"{entry!r} is not a regular file")
        if first_bytes is not None:
            return os.read(descriptor, first_bytes)
        return _read_all(descriptor, found.st_size, entry, max_bytes)
    except OSError as error:
        return _skipped_by(error, entry)
    finally:
        os.close(descriptor)


def read_named(path: Path, max_bytes: int = USUAL.max_bytes) -> bytes | Skipped:
    """The bytes of the file at ``path``, wherever links lead: the user named it."""
    return open_regular(path.parent, path.name, follow_symlinks=True, max_bytes=max_bytes)


def file_digest(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamps_digest(paths: Iterable[str]) -> str:
    """sha256 over the size and the last change of each file, which are not read; "-" where there is none."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = Path(path).stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        except (OSError, ValueError):  # a NUL in a path
            digest.update(b"-\n")
    return digest.hexdigest()


def _read_all(descriptor: int, size: int, entry: str, max_bytes: int) -> bytes | Skipped:
    if size > max_bytes:
        return Skipped("too_large", f"{entry!r} has {size:,} bytes, the limit is {max_bytes:,}")
    data = os.read(descriptor, size + 1)
    # One call may return a part: of 2 GiB and more, and on network disks.
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    if len(data) != size:
        return Skipped("changed", f"{entry!r} changed its size while it was being read")
    return data


def _skipped_by(error: OSError, entry: str) -> Skipped:
    reason = _REASONS.get(error.errno or 0, "unreadable")
    return Skipped(reason, f"{entry!r}: {error.strerror or error}")
