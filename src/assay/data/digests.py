"""Digests of files: of their bytes, or of size and time of change without reading them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_digest(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamps_digest(paths: Iterable[str]) -> str:
    """sha256 over the size and the last change of each file; "-" where none is."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = Path(path).stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        except (OSError, ValueError):  # a NUL in a path
            digest.update(b"-\n")
    return digest.hexdigest()
