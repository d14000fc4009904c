"""FeatureStore: each image's features, computed once, found again by the image's content.

One folder per backbone and view holds two files that only ever grow: ``rows`` (float16 features) and
``index`` (for row i: sha256 of the image's bytes, what was remarked on it, crc32 of the features). Rows are on disk before
their index entry is, so whatever a killed run leaves behind, the index speaks only of whole rows.
Appending takes a lock; reading needs none.
"""

import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Float

from assay._errors import ResourceError
from assay._types import Matrix

ENTRY = np.dtype([("content", "V32"), ("flags", "<u4"), ("crc", "<u4")])
"""One index entry."""

BLOCK = 4096
"""Rows copied at a time: memory stays flat."""


@dataclass(frozen=True)
class FeatureStore:
    """The features that one backbone gives for one view (as is, or mirrored)."""

    folder: Path
    width: int

    def snapshot(self) -> "Snapshot":
        """What is stored now; other processes may add to it meanwhile."""
        rows, index = self._open()
        known = {content: row for row, content in enumerate(index["content"].tolist())}
        return Snapshot(known, rows, index)

    def append(
        self, contents: Sequence[bytes], flags: Sequence[int], features: Float[np.ndarray, "B D"]
    ) -> None:
        """Store features (one row for each digest); safe beside other processes that do the same."""
        if not np.isfinite(features).all():
            raise ValueError("expected finite features, got NaN or infinity: nothing was stored")
        rows = np.ascontiguousarray(np.clip(features, -65504, 65504).astype(np.float16))
        entries = np.zeros(len(rows), dtype=ENTRY)
        entries["content"] = np.array([np.void(content) for content in contents], dtype="V32")
        entries["flags"] = flags
        entries["crc"] = [zlib.crc32(row) for row in rows]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                whole = self._whole()
                self._write("rows", whole * self.width * 2, rows.tobytes())
                self._write("index", whole * ENTRY.itemsize, entries.tobytes())
        except OSError as error:
            raise ResourceError(
                f"{self.folder}: could not store {rows.nbytes} bytes of features ({error.strerror}); "
                "free some space or name another cache with ASSAY_CACHE, then give the same command again"
            ) from error

    def gather(self, rows: np.ndarray) -> Matrix:
        """The stored rows as a float16 memory map (N, D); zeros where the row is -1.

        Rows that lie one after the other, as they do after a first run, are not copied.
        """
        stored, _ = self._open()
        if len(rows) and rows[0] >= 0 and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return stored[rows[0] : rows[0] + len(rows)]
        with tempfile.TemporaryFile() as file:
            copy = np.memmap(file, np.float16, "w+", shape=(max(len(rows), 1), self.width))[: len(rows)]
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            copy[start : start + BLOCK][block >= 0] = stored[block[block >= 0]]
        return copy

    def _whole(self) -> int:
        """Rows that are wholly on disk: an interrupted append leaves a tail that does not count."""
        entries = _size(self.folder / "index") // ENTRY.itemsize
        return min(entries, _size(self.folder / "rows") // (self.width * 2))

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        n = self._whole()
        if n == 0:
            return np.zeros((0, self.width), np.float16), np.zeros(0, ENTRY)
        rows = np.memmap(self.folder / "rows", np.float16, "r", shape=(n, self.width))
        return rows, np.fromfile(self.folder / "index", ENTRY, count=n)

    def _write(self, name: str, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``, cutting off whatever an interrupted append left there."""
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class Snapshot:
    """The state of a store at one moment."""

    known: Mapping[bytes, int]
    """sha256 of an image's bytes -> row."""
    rows: np.ndarray
    index: np.ndarray

    def find(self, content: bytes) -> int:
        """The row of an image's features; -1 if they are not stored, or damaged on disk."""
        row = self.known.get(content, -1)
        return row if row >= 0 and zlib.crc32(self.rows[row]) == self.index["crc"][row] else -1

    def flags(self, row: int) -> int:
        """The remarks on the image of a row, as bits."""
        return int(self.index["flags"][row])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
