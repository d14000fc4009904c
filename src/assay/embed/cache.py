"""FeatureStore: each image's features, computed once and found again by the image's content.

A folder per backbone and view holds two files that only grow: ``rows`` (float16 features) and ``index`` (for
each row: sha256 of the image's bytes, warnings about the image, crc32 of the features). Rows are written
before their index entries, so after a kill the index names whole rows only; after a power cut a bad row fails
its crc32 and is computed again, so nothing waits for the disk. Appending takes a lock, reading none.
"""

import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Float, Int

from assay.data.files import open_flags
from assay.errors import explain_write_errors
from assay.types import Matrix

CACHE_ADVICE = "choose another cache with ASSAY_CACHE"

# Void, not bytes: NumPy's bytes would lose the zeros at the end of a digest. Caches of older versions stay:
# for another layout the folders would need another name.
ENTRY = np.dtype([("content", "V32"), ("flags", "<u4"), ("crc", "<u4")])

BLOCK = 4096
"""Rows copied at a time, so that memory stays flat."""

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Snapshot:
    """What a store held at one moment."""

    known: Mapping[bytes, int]
    """sha256 of an image's bytes -> its row, the newest if there are several."""
    rows: np.ndarray
    index: np.ndarray

    def find(self, content: bytes) -> int:
        """The row of an image's features; -1 if they are not stored, or damaged on disk."""
        row = self.known.get(content, -1)
        return row if row >= 0 and zlib.crc32(self.rows[row]) == self.index["crc"][row] else -1

    def flags(self, row: int) -> int:
        """The warnings about an image, as bits."""
        return int(self.index["flags"][row])


@dataclass(frozen=True)
class FeatureStore:
    """The features of one backbone for one view (as is, or mirrored)."""

    folder: Path
    """Made by the first append; any number of processes may share it."""
    width: int
    """Features of each image."""

    def snapshot(self) -> Snapshot:
        """What is stored now; other processes may add to it meanwhile."""
        rows, index = self._open()
        known = {content: row for row, content in enumerate(index["content"].tolist())}
        return Snapshot(known, rows.view(np.ndarray), index)

    def append(
        self, contents: Sequence[bytes], flags: Sequence[int], features: Float[np.ndarray, "B D"]
    ) -> None:
        """Store one row of features for each sha256; other processes may append at the same time.

        Raises
        ------
        ResourceError : the disk or a limit on file size is reached; what was stored before stays
        UsageError : the folder cannot be written to
        """
        if not np.isfinite(features).all():
            raise ValueError("expected finite features, got NaN or infinity: nothing was stored")
        rows = np.clip(features, -_LARGEST, _LARGEST).astype(np.float16, order="C")
        entries = np.zeros(len(rows), dtype=ENTRY)
        entries["content"] = np.frombuffer(b"".join(contents), "V32")
        entries["flags"] = flags
        entries["crc"] = [zlib.crc32(row) for row in rows]
        with explain_write_errors(self.folder, rows.nbytes + entries.nbytes, advice=CACHE_ADVICE):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                n = self._n_whole()
                _write_from(self.folder / "rows", n * self.width * 2, rows.tobytes())
                _write_from(self.folder / "index", n * ENTRY.itemsize, entries.tobytes())

    def gather(self, rows: Int[np.ndarray, "N"]) -> Matrix:
        """The stored rows as a read-only float16 memory map (N, D); zeros where the row is -1.

        Consecutive rows, as after a first run, are not copied; others are copied to a nameless temporary
        file, which is gone when the map is.
        """
        stored, _ = self._open()
        if len(rows) == 0:
            return np.zeros((0, self.width), np.float16)
        if rows[0] >= 0 and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return stored[rows[0] : rows[0] + len(rows)]
        beside = self.folder if os.access(self.folder, os.W_OK) else None
        with (
            explain_write_errors(self.folder, len(rows) * self.width * 2, advice=CACHE_ADVICE),
            tempfile.TemporaryFile(dir=beside) as file,
        ):
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                part = np.zeros((len(block), self.width), np.float16)
                part[block >= 0] = stored[block[block >= 0]]
                # Written, not mapped: on a full disk a write fails, and a map kills the process.
                file.write(part.tobytes())
            file.flush()
            return np.memmap(file, np.float16, "r", shape=(len(rows), self.width))

    def _n_whole(self) -> int:
        """Rows that are whole in both files: the tail of an interrupted append does not count."""
        entries = _size(self.folder / "index") // ENTRY.itemsize
        return min(entries, _size(self.folder / "rows") // (self.width * 2))

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows, mapped, and index."""
        n = self._n_whole()
        if n == 0:
            return np.zeros((0, self.width), np.float16), np.zeros(0, ENTRY)
        rows = np.memmap(self.folder / "rows", np.float16, "r", shape=(n, self.width))
        return rows, np.fromfile(self.folder / "index", ENTRY, count=n)


def store_folder(cache: Path, digest: str, view: str = "plain") -> Path:
    """Where a backbone's features for one view are stored."""
    return cache / "features" / f"{digest[:24]}-{view}"


def find_store(cache: Path, digest: str) -> FeatureStore | None:
    """The stored features of images as they are, without loading the backbone; None if none, or damaged.

    The width is found by the first row's checksum: a killed append may have left more in the file of rows
    than the index counts, so the sizes of the files do not give it.
    """
    folder = store_folder(cache, digest)
    entries, stored = _size(folder / "index") // ENTRY.itemsize, _size(folder / "rows") // 2
    if not entries or not stored:
        return None
    wanted = int(np.fromfile(folder / "index", ENTRY, count=1)["crc"][0])
    # Twice an even share, since rows may have been cut off as well.
    row = np.fromfile(folder / "rows", np.float16, count=2 * stored // entries + 2)
    # The sums of its first 0, 1, 2, … features: the width is where the stored one comes up.
    sums = accumulate(row, lambda crc, feature: zlib.crc32(feature.tobytes(), crc), initial=0)
    width = next((width for width, crc in enumerate(sums) if width and crc == wanted), 0)
    return FeatureStore(folder, width) if width else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write_from(path: Path, offset: int, data: bytes) -> None:
    """Write ``data`` at ``offset``, where an interrupted append may have left a tail."""
    descriptor = os.open(path, open_flags("O_RDWR", "O_CREAT"), 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
