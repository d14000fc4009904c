"""Images that are named one by one, such as by ``find`` in a pipe."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.data.dataset import Dataset, ReadOptions, Skipped
from assay.data.formats import raw_fault
from assay.data.limits import USUAL
from assay.data.paths import open_regular
from assay.errors import DataError
from assay.types import UNKNOWN


def read_named(path: Path, max_bytes: int = USUAL.max_bytes) -> bytes | Skipped:
    """The bytes of the file at ``path``, or why they cannot be had: see ``open_regular``."""
    return open_regular(path.parent, path.name, follow_symlinks=True, max_bytes=max_bytes)


@dataclass(frozen=True)
class ListedSource:
    """Reads files wherever they are: who names a file may mean one behind a link."""

    paths: tuple[str, ...]
    max_bytes: int = USUAL.max_bytes

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why they cannot be had."""
        return read_named(Path(self.paths[index]), self.max_bytes)


def read_listed(listing: bytes, options: ReadOptions | None = None) -> Dataset:
    """The images at these paths, in this order, without labels.

    Parameters
    ----------
    listing : paths, one a line, or with NUL between them, as ``find -print0`` writes them
    options : which files may be used

    Raises
    ------
    DataError : not one path
    """
    parts = listing.split(b"\0") if b"\0" in listing else listing.splitlines()
    paths = tuple(os.fsdecode(part) for part in parts if part)
    if not paths:
        raise DataError("expected paths of images on stdin, one a line, got none")
    unknown, options = np.full(len(paths), UNKNOWN, dtype=np.int64), options or ReadOptions()
    return Dataset(
        paths,
        ListedSource(paths, options.limits.max_bytes),
        (),
        unknown,
        unknown.copy(),
        skipped={row: fault for row, path in enumerate(paths) if (fault := raw_fault(path)) is not None},
        accept_truncated=options.accept_truncated,
        limits=options.limits,
    )
