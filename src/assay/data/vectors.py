"""Vectors: features that the user computed, such as embeddings, one row an item, in place of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.files import Skipped
from assay.data.tables import is_parquet
from assay.errors import DataError
from assay.types import Matrix

BLOCK = 4096
"""Rows checked at a time, so that a memory map is not copied."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """N rows of D numbers; as a source of images, the bytes of an item are those of its row."""

    path: Path
    """The file; of an array in memory a name for messages."""
    rows: Matrix
    """(N, D) float16 or float32, a memory map where the file allows it; zeros where skipped."""
    names: tuple[str, ...] | None = None
    """Of the items, from the file itself; None where row i belongs to line i of the label file."""
    skipped: Mapping[int, Skipped] = field(default_factory=dict)
    """Rows that cannot be used: ``not_finite``."""

    def read(self, index: int) -> bytes | Skipped:
        """The row as float32, whatever its type in the file."""
        return self.skipped.get(index) or self.rows[index].astype("<f4").tobytes()


def read_vectors(path: Path, path_column: str | None = None) -> Vectors:
    """The rows of a .npy file, mapped into memory, or of a Parquet file.

    Parameters
    ----------
    path_column : the column of names in Parquet, if it is not a known one

    Raises
    ------
    DataError : no table of numbers, or one of pickled objects, which would run code
    TableError : a Parquet file without one column of vectors or several of numbers, or names that repeat
    """
    if is_parquet(path):
        from assay.data.parquet import parquet_vectors  # polars is slow to import

        rows, names = parquet_vectors(path, path_column)
        return vectors_of(rows, path, names)
    try:
        # Changes stay in memory: rows that cannot be used become zeros.
        return vectors_of(np.lib.format.open_memmap(path, mode="c"), path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # also of a pickle, which is not opened
        raise DataError(
            f"{path.name}: expected an array in a .npy file, or Parquet, got something else ({error}); "
            "write it with numpy.save(path, vectors.astype('float32'))"
        ) from error


def vectors_of(rows: Any, path: Path = Path("features"), names: tuple[str, ...] | None = None) -> Vectors:
    """An array (N, D) of numbers; rows with NaN or infinity are skipped.

    Raises
    ------
    DataError : an array of another shape or type
    """
    rows = np.asanyarray(rows)
    if rows.dtype.kind not in "iuf" or rows.ndim != 2 or 0 in rows.shape:
        raise DataError(
            f"{path.name}: expected numbers in rows of one length, (N, D) integers or floats, got an array "
            f"{rows.shape} of {rows.dtype}; write it with numpy.save(path, vectors.astype('float32'))"
        )
    if rows.dtype not in (np.float16, np.float32) or not rows.flags.c_contiguous:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is skipped
            rows = rows.astype(np.float32, order="C")
    skipped = {}
    for start in range(0, len(rows), BLOCK):
        bad = ~np.isfinite(rows[start : start + BLOCK])
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            detail = f"row {start + row + 1} of {path.name} has NaN or infinity in {bad[row].sum():,} places"
            skipped[start + row] = Skipped("not_finite", detail)
    if skipped:
        private = isinstance(rows, np.memmap) and rows.mode == "c"
        rows = rows if private else rows.copy()  # the user's own array stays as it is
        rows[[*skipped]] = 0
    return Vectors(path, rows, names, skipped)
