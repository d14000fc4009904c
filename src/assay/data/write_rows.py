"""Columns as CSV, JSON lines or Parquet; CSV and JSON lines read back to the same strings."""

import io
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from assay.data.write import escape_surrogates, is_unicode, plain_value, write_bytes_atomic
from assay.errors import UsageError

Column = Sequence[Any] | np.ndarray
"""Text, numbers, bools or None."""

_NEEDS_QUOTES = re.compile(r'[",\r\n]')
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_UTF8_MARK = "\ufeff"


@runtime_checkable
class ByteStream(Protocol):
    """An open binary stream, such as ``sys.stdout.buffer``."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""
        ...

    def flush(self) -> None:
        """Pass on what was taken."""
        ...


def write_rows(
    target: Path | ByteStream,
    header: Sequence[str],
    columns: Sequence[Column],
    *,
    format: str = "csv",  # noqa: A002  # the word of the flag
    excel_safe: bool = False,
) -> None:
    """Write a table, given column by column, to a path (atomically) or to an open binary stream.

    Parameters
    ----------
    columns, format, excel_safe : see ``encode_rows``

    Raises
    ------
    UsageError : an unknown format; text that is not Unicode, in Parquet; a place that cannot be written to
    ValueError : a NaN or an infinity, columns of different lengths
    ResourceError : no room
    """
    data = encode_rows(header, columns, format=format, excel_safe=excel_safe)
    if isinstance(target, Path):
        write_bytes_atomic(target, data)
    else:
        target.write(data)
        target.flush()


def encode_rows(
    header: Sequence[str],
    columns: Sequence[Column],
    *,
    format: str = "csv",  # noqa: A002  # the word of the flag
    excel_safe: bool = False,
    headed: bool = True,
) -> bytes:
    """A table as bytes.

    Parameters
    ----------
    columns : one sequence for each name in ``header``, all of one length, of text, numbers, bools or
        None; None is an empty cell in CSV and null elsewhere
    format : ``csv`` (UTF-8, LF, minimal quotes), ``jsonl`` (keys in the order of ``header``), ``parquet``
    excel_safe : in CSV, put ``'`` before text that a spreadsheet would run as a formula; such text
        does not read back as it was
    headed : begin with the header, in CSV; without it rows can be added to others

    Raises
    ------
    UsageError : an unknown format; text that is not Unicode, in Parquet
    ValueError : a NaN or an infinity, columns of different lengths
    """
    encoders: dict[str, Callable[[], bytes]] = {
        "csv": lambda: _csv(header, columns, excel_safe, headed),
        "jsonl": lambda: _jsonl(header, columns),
        "parquet": lambda: _parquet(header, columns),
    }
    if format not in encoders:
        raise UsageError(f"expected --format {', '.join(encoders)}, got {format!r}")
    if len(header) != len(columns) or len(set(header)) < len(header):
        raise ValueError(f"expected a column for each name of {list(header)}, got {len(columns)}")
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"expected columns of one length, got {dict(zip(header, lengths, strict=True))}")
    return encoders[format]()


def _csv(header: Sequence[str], columns: Sequence[Column], excel_safe: bool, headed: bool) -> bytes:
    cells = [[_cell(value, excel_safe) for value in _plain(column)] for column in columns]
    lines = [",".join(_cell(name, excel_safe) for name in header)] if headed else []
    lines += [",".join(row) for row in zip(*cells, strict=True)]
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _cell(value: Any, excel_safe: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    text = value if isinstance(value, str) else repr(value)
    if excel_safe and isinstance(value, str) and text.startswith(_FORMULA_STARTS):
        text = "'" + text
    if _NEEDS_QUOTES.search(text) or text.startswith(_UTF8_MARK):
        return '"' + text.replace('"', '""') + '"'
    return text


def _jsonl(header: Sequence[str], columns: Sequence[Column]) -> bytes:
    rows = zip(*map(_plain, columns), strict=True)
    lines = (
        json.dumps(
            dict(zip(header, row, strict=True)), ensure_ascii=False, allow_nan=False, default=plain_value
        )
        for row in rows
    )
    return "".join(escape_surrogates(line) + "\n" for line in lines).encode()


def _parquet(header: Sequence[str], columns: Sequence[Column]) -> bytes:
    import polars as pl

    check_unicode(header, columns)
    return _frame_bytes(
        pl.DataFrame({name: list(_plain(column)) for name, column in zip(header, columns, strict=True)})
    )


def check_unicode(header: Sequence[str], columns: Sequence[Column], rows_before: int = 0) -> None:
    """Refuse text that Parquet cannot hold.

    Raises
    ------
    UsageError : text that is not Unicode, such as a file name of other bytes
    """
    for name, column in zip(header, columns, strict=True):
        for row, value in enumerate(column, rows_before + 1):
            if isinstance(value, str) and not is_unicode(value):
                raise UsageError(
                    f"row {row} of {name!r} is {value!r}, which is not Unicode as Parquet wants it; "
                    "write csv or jsonl instead"
                )


def parquet_of_jsonl(rows: Path) -> bytes:
    """Rows that were written as JSON lines, one or more, as a Parquet file."""
    import polars as pl

    return _frame_bytes(pl.read_ndjson(rows, infer_schema_length=None).rechunk())


def _frame_bytes(frame: Any) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _plain(column: Column) -> Sequence[Any]:
    """Python's own values: NumPy's would write themselves as ``np.float64(0.5)``."""
    if isinstance(column, np.ndarray):
        plain: Sequence[Any] = column.tolist()
        return plain
    return [value.item() if hasattr(value, "item") else value for value in column]
