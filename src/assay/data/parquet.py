"""Parquet: a table of labels, and images that are stored inside it. Imported only when one is read."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from assay.data.dataset import Listing, Skipped
from assay.data.tables import PATH_COLUMNS, Table, known_columns
from assay.errors import TableError

WINDOW = 256
"""Images that are read from the file at once; neighbours are nearly always wanted together."""

WINDOW_BYTES = 2**27
"""About what these may weigh: of large images fewer are read at once."""

_WINDOWS_KEPT = 4


def read_parquet(path: Path) -> Table:
    """The text, integer and boolean columns of a Parquet file as strings; null is the empty string.

    Of a struct with a ``path``, such as an image of a Hugging Face data set, the path is the cell. A column
    of whole numbers and gaps, which pandas keeps as floats, is one of integers. Others are left out.

    Raises
    ------
    TableError : the file cannot be read
    """
    columns: dict[str, list[str]] = {}
    frame = _scan(path)
    for name, dtype in frame.collect_schema().items():
        cells = _text(name, dtype)
        if dtype.is_float() and _is_whole(path, frame, name):
            cells = pl.col(name).fill_nan(None).cast(pl.Int64).cast(pl.String)
        if cells is not None:
            columns[name] = _collect(path, frame.select(cells.fill_null("")))
    height = int(_collect(path, frame.select(pl.len()))[0])
    rows = tuple(zip(*columns.values(), strict=True)) if columns else ((),) * height
    return Table(path, tuple(columns), rows, tuple(range(1, height + 1)), unit="row")


@dataclass
class ParquetImages:
    """Image bytes in a column of a Parquet file, read a window at a time."""

    path: Path
    column: str
    nested: bool
    """True for struct{bytes, path}, False for plain binary."""
    window: int = WINDOW
    """Images that are read at once."""
    _windows: tuple[tuple[int, list[bytes | None]], ...] = field(default=(), repr=False)
    _loading: AbstractContextManager[Any] = field(default_factory=Lock, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads its own windows."""
        return ParquetImages, (self.path, self.column, self.nested, self.window)

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``."""
        start = index - index % self.window
        found = self._window(start)
        if index - start >= len(found):
            return Skipped("changed", f"{self.path.name} has no row {index + 1} any more")
        data = found[index - start]
        return (
            Skipped("missing_image", f"row {index + 1} of {self.path.name} is null") if data is None else data
        )

    def _window(self, start: int) -> list[bytes | None]:
        found = dict(self._windows).get(start)
        if found is not None:
            return found
        # Threads come to a new window together: one reads it, the others wait for it.
        with self._loading:
            found = dict(self._windows).get(start)
            if found is None:
                found = self._load(start)
                self._windows = ((start, found), *self._windows[: _WINDOWS_KEPT - 1])
        return found

    def _load(self, start: int) -> list[bytes | None]:
        image = pl.col(self.column)
        window = _scan(self.path).slice(start, self.window)
        return _collect(self.path, window.select(image.struct.field("bytes") if self.nested else image))


def parquet_listing(path: Path, *, image_column: str | None = None) -> Listing:
    """The images stored in a Parquet file, in row order.

    An image is called by its ``path`` if all have one and no two are equal, else by its row, from 1.

    Raises
    ------
    TableError : the file cannot be read, no column can be the image, or it holds paths and no images
    """
    schema = dict(_scan(path).collect_schema())
    column = _image_column(path, schema, image_column)
    kind = _kind(schema[column])
    if kind == "path":
        raise TableError(
            f"{path.name}: the column {column!r} holds paths and no images; give their folder as the images "
            f"and this file as the labels: --noisy {path.name}"
        )
    table = read_parquet(path)
    names = _names(table, column if kind == "struct" else None)
    fitting = WINDOW_BYTES * len(names) // max(path.stat().st_size, 1)
    window = min(max(fitting, 1), WINDOW)
    return Listing(names, ParquetImages(path, column, kind == "struct", window))


def _names(table: Table, column: str | None) -> tuple[str, ...]:
    if column is not None and table.columns is not None and column in table.columns:
        place = table.columns.index(column)
        names = tuple(row[place] for row in table.rows)
        if "" not in names and len(set(names)) == len(names):
            return names
    return tuple(str(number) for number in table.line_numbers)


def _image_column(path: Path, schema: Mapping[str, Any], wanted: str | None) -> str:
    columns = tuple(schema)
    if wanted is not None and wanted in columns:
        return wanted
    known = known_columns(columns, PATH_COLUMNS)
    if len(known) != 1:  # then the only one that can hold images
        known = [place for place, name in enumerate(columns) if _kind(schema[name]) != "path"]
    if len(known) != 1:
        raise TableError(
            f"{path.name}: expected one image column ({', '.join(PATH_COLUMNS)}), got the columns "
            f"{', '.join(columns)}; name it with --path-col"
        )
    return columns[known[0]]


def _kind(dtype: Any) -> str:
    if isinstance(dtype, pl.Struct) and any(part.name == "bytes" for part in dtype.fields):
        return "struct"
    return "binary" if dtype == pl.Binary else "path"


def _text(name: str, dtype: Any) -> pl.Expr | None:
    """The column as text, if it can be a path or a label."""
    column = pl.col(name)
    if isinstance(dtype, pl.Struct):
        return column.struct.field("path") if any(part.name == "path" for part in dtype.fields) else None
    if dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        return column.cast(pl.String)
    return None


def _is_whole(path: Path, frame: pl.LazyFrame, name: str) -> bool:
    numbers = pl.col(name).fill_nan(None)
    whole = (numbers == numbers.round()) & (numbers.abs() < 2**53)
    return bool(_collect(path, frame.select(whole.all()))[0])


def _scan(path: Path) -> pl.LazyFrame:
    if not path.is_file():
        raise TableError(f"cannot read {path}: no such file")
    # Hive and glob off: the path is one file, whatever characters its name has.
    frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    try:
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path.name} is not a Parquet file: {_first_line(error)}") from None
    return frame


def _collect(path: Path, frame: pl.LazyFrame) -> list[Any]:
    try:
        return frame.collect().to_series().to_list()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path.name} is damaged: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines: Iterable[str] = str(error).splitlines()
    return next(iter(lines), type(error).__name__)
