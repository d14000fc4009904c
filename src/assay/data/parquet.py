"""Parquet: a table of labels, and images that are stored inside it. Imported only when one is read."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from assay.data.dataset import Address, Listing, Skipped
from assay.data.files import file_version
from assay.data.tables import LABEL_COLUMNS, PATH_COLUMNS, Table, known_columns, shown
from assay.errors import TableError

WINDOW = 256  # images that are read at once: neighbours are nearly always wanted together
WINDOW_BYTES = 2**27  # about their most bytes: of large images fewer are read at once
_WINDOWS_KEPT = 4


def read_parquet(path: Path) -> Table:
    """The text, integer and boolean columns of a Parquet file as strings; null is the empty string.

    The cell of a struct with a ``path``, such as an image of a Hugging Face data set, is the path. A column
    of whole numbers and gaps, which pandas keeps as floats, is one of integers. Other columns are left out.
    """
    columns: dict[str, list[str]] = {}
    frame = _scan(path)
    for name, dtype in frame.collect_schema().items():
        cells = pl.col(name)
        numbers = cells.fill_nan(None)
        whole = (numbers == numbers.round()) & (numbers.abs() < 2**53)
        if dtype.is_float() and _collect(path, frame.select(whole.all()))[0]:
            cells = numbers.cast(pl.Int64)
        elif isinstance(dtype, pl.Struct) and any(part.name == "path" for part in dtype.fields):
            cells = cells.struct.field("path")
        elif not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)):
            continue
        columns[name] = _collect(path, frame.select(cells.cast(pl.String).fill_null("")))
    height = int(_collect(path, frame.select(pl.len()))[0])
    rows = tuple(zip(*columns.values(), strict=True)) if columns else ((),) * height
    places, names = tuple(range(1, height + 1)), _class_names(path)
    return Table(path, tuple(columns), rows, places, unit="row", class_names=names)


def _class_names(path: Path) -> dict[str, tuple[str, ...]]:
    """Names of the labels in each column that Hugging Face's datasets wrote as a ClassLabel."""
    try:
        written = json.loads(pl.read_parquet_metadata(path).get("huggingface", "{}"))
        features = written["info"]["features"].items()
        return {column: tuple(map(str, kind["names"])) for column, kind in features if "names" in kind}
    except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError):
        return {}  # no data set of theirs, or damaged: then the labels stay integers


@dataclass
class ParquetImages:
    """Image bytes in a column of a Parquet file, read a window at a time."""

    path: Path
    column: str
    is_struct: bool
    """True for struct{bytes, path}, False for plain binary."""
    window: int = WINDOW
    _windows: dict[int, list[bytes | None]] = field(default_factory=dict, repr=False)
    _loading: Any = field(default_factory=Lock, repr=False, compare=False)

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why there are none."""
        start = index - index % self.window
        # Of threads that come to a new window together, one reads it and the others wait.
        with self._loading:
            if start not in self._windows:
                if len(self._windows) == _WINDOWS_KEPT:
                    del self._windows[next(iter(self._windows))]
                cells = pl.col(self.column)
                cells = cells.struct.field("bytes") if self.is_struct else cells
                window = _scan(self.path).slice(start, self.window)
                self._windows[start] = _collect(self.path, window.select(cells))
            found = self._windows[start]
        if index - start >= len(found):
            return Skipped("changed", f"{self.path.name} has no row {index + 1} any more")
        data = found[index - start]
        if data is None:
            return Skipped("missing_image", f"row {index + 1} of {self.path.name} is null")
        return data

    def address(self, index: int) -> Address:
        """Where image ``index`` lies."""
        return Address(str(self.path.absolute()), str(index), file_version(self.path))


def names_images(path: Path, column: str, image_column: str | None = None) -> bool:
    """Whether a Parquet file has texts in ``column``, and neither images nor a column ``image_column``."""
    schema = dict(_scan(path).collect_schema())
    return (
        schema.get(column) == pl.String
        and image_column not in schema
        and not any(map(_holds_images, schema.values()))
    )


def parquet_listing(path: Path, *, image_column: str | None = None) -> Listing:
    """The images stored in a Parquet file, in row order.

    An image is named by its ``path`` if all have one and no two are equal, else by its row, from 1.
    """
    schema = dict(_scan(path).collect_schema())
    columns = tuple(schema)
    found = [place for place, name in enumerate(columns) if name == image_column]
    found = found or known_columns(columns, PATH_COLUMNS)
    if len(found) != 1:  # then the only one that can hold images
        found = [place for place, name in enumerate(columns) if _holds_images(schema[name])]
    if len(found) != 1:
        raise TableError(
            f"{path.name}: expected one image column ({', '.join(PATH_COLUMNS)}), got the columns "
            f"{', '.join(columns)}; name it with --path-col"
        )
    column = columns[found[0]]
    is_struct = isinstance(schema[column], pl.Struct)
    if not _holds_images(schema[column]) or (is_struct and _has_no_bytes(path, column)):
        raise TableError(
            f"{path.name}: the column {column!r} holds paths and no bytes of images; give their folder as "
            f"the images and this file as the labels: --noisy {path.name}"
        )
    table = read_parquet(path)
    names = tuple(str(number) for number in table.line_numbers)
    if is_struct and column in (table.columns or ()):
        place = (table.columns or ()).index(column)
        paths = tuple(row[place] for row in table.rows)
        if "" not in paths and len(set(paths)) == len(paths):
            names = paths
    fitting = WINDOW_BYTES * len(names) // max(path.stat().st_size, 1)
    source = ParquetImages(path, column, is_struct, min(max(fitting, 1), WINDOW))
    return Listing(names, source, table=table)


def parquet_vectors(path: Path, path_column: str | None = None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(numbers (N, D), names of the rows or None) of a Parquet file with features.

    The numbers are the only column of lists, or else all numeric columns but those of paths and labels.
    """
    schema = dict(_scan(path).collect_schema())
    columns = tuple(schema)
    named = [place for place, name in enumerate(columns) if name == path_column]
    named = named or known_columns(columns, PATH_COLUMNS)
    if len(named) > 1:
        raise TableError(
            f"{path.name}: expected one column of names, got {', '.join(columns[place] for place in named)}; "
            "name it with --path-col"
        )
    apart = {columns[place] for place in (*named, *known_columns(columns, LABEL_COLUMNS))}
    lists = [name for name in columns if isinstance(schema[name], pl.List | pl.Array) and name not in apart]
    used = lists or [name for name in columns if schema[name].is_numeric() and name not in apart]
    if len(lists) > 1 or not used:
        raise TableError(
            f"{path.name}: expected one column of lists of numbers, or columns of numbers, got "
            f"{', '.join(f'{name} ({schema[name]})' for name in columns)}"
        )
    try:
        frame = _scan(path).select([*used, *(columns[place] for place in named)]).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path.name} is damaged: {_first_line(error)}") from None
    numbers = _from_lists(path, frame[used[0]]) if lists else frame.select(used).to_numpy()
    if not named:
        return numbers, None
    names = tuple("" if name is None else str(name) for name in frame[columns[named[0]]].to_list())
    row_of: dict[str, int] = {}
    for row, name in enumerate(names, 1):
        if row_of.setdefault(name, row) != row:
            raise TableError(
                f"{path.name} rows {row_of[name]:,} and {row:,}: expected different names, got {shown(name)} "
                "in both; keep one of the rows"
            )
    return numbers, names


def _from_lists(path: Path, column: pl.Series) -> np.ndarray:
    """(N, D) of a column of lists; NaN where a row or a number is missing."""
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    lengths = column.list.len()
    width = int(next(iter(lengths.drop_nulls()), 0))
    others = (lengths != width).arg_true()
    if len(others):
        raise TableError(
            f"{path.name} row {others[0] + 1:,}: expected {width:,} numbers as in the rows before, got "
            f"{lengths[others[0]]:,}; all vectors must have one length"
        )
    present = column.is_not_null().to_numpy()
    numbers = np.full((len(column), width), np.nan, np.float32)
    numbers[present] = column.drop_nulls().explode().cast(pl.Float32).to_numpy().reshape(-1, width)
    return numbers


def _has_no_bytes(path: Path, column: str) -> bool:
    """Whether a struct{bytes, path} has paths alone."""
    # The first row nearly always tells, without reading the others.
    missing = _scan(path).select(pl.col(column).struct.field("bytes").is_null())
    return all(_collect(path, missing.head(1))) and all(_collect(path, missing))


def _holds_images(dtype: Any) -> bool:
    is_struct = isinstance(dtype, pl.Struct) and any(part.name == "bytes" for part in dtype.fields)
    return is_struct or bool(dtype == pl.Binary)


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
    return next(iter(str(error).splitlines()), type(error).__name__)
