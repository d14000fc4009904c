"""Output files: each appears whole or not at all, and tables read back byte for byte.

A file is written beside its place, flushed to disk and renamed, so a killed run leaves the old file or the
new one. What is not a regular file (``/dev/stdout``, a pipe) is written straight through.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from filelock import FileLock, Timeout

from assay.data.files import open_flags
from assay.errors import BusyError, UsageError, explain_write_errors

# The name of a file until it is whole; other hidden files are the user's.
UNFINISHED_NAME = re.compile(r"\.[0-9a-f]{16}\.tmp")
SAVED_EVERY = 4_096  # rows of a ``ResumableWriter`` between two flushes to disk; a kill loses no more
FORMATS = ("csv", "jsonl", "parquet")

Column = Sequence[Any] | np.ndarray
"""Text, numbers, bools or None."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_NEEDS_QUOTES = re.compile('\\A\ufeff|[",\r\n]')  # a reader would drop an unquoted mark at the start
_STARTS_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")

EXCEL_SAFE = "excel_safe"
"""The last column of a CSV that was written so: by it a reader knows that the marks are not of the text."""

MARKED_FORMULA = "^'('*[=+\\-@\t\r\n＝＋－＠])"
"""A cell to which ``excel_safe`` added a quote, and its text: a regular expression for Python and for polars.
Text that begins so already gets one more quote: every cell can be read back."""


@runtime_checkable
class ByteStream(Protocol):
    """An open binary stream, such as ``sys.stdout.buffer``."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""
        ...

    def flush(self) -> None:
        """Pass on what was taken."""
        ...


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it; UsageError if that is not possible."""
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``; on any failure what was there before stays as it was."""
    with explain_write_errors(path, len(data)):
        if path.exists() and not path.is_file():
            with path.open("wb", buffering=0) as device:
                _write_all(device.fileno(), data)
            return
        # A link at ``path`` is replaced, not followed: who plants one must not choose what is overwritten.
        # The name is short, since that of ``path`` may have all of the 255 bytes that a name can have.
        beside = path.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            descriptor = os.open(beside, open_flags("O_WRONLY", "O_CREAT", "O_EXCL"), 0o666)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            beside.replace(path)
        except BaseException:  # Ctrl-C too must leave nothing behind
            beside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """``write_bytes_atomic`` in UTF-8; surrogate escapes become the bytes that they stand for."""
    write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` as JSON: sorted keys, indent 1, UTF-8, numbers with all their digits."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, indent=1, default=_plain_value
    )
    write_text_atomic(path, escape_surrogates(text) + "\n")


def is_unicode(text: str) -> bool:
    """Whether it has no half surrogates, such as bytes that are not UTF-8."""
    return _SURROGATE.search(text) is None


def escape_surrogates(text: str) -> str:
    r"""JSON text in which half surrogates, such as bytes that are not UTF-8, are ``\udcxx`` escapes."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
    columns : one for each name in ``header``, all of one length; None is an empty cell in CSV, else null
    format : ``csv`` (UTF-8, LF, minimal quotes), ``jsonl`` (keys in the order of ``header``), ``parquet``
    excel_safe : in CSV, put ``'`` before text that a spreadsheet would run as a formula, and add the column
        ``EXCEL_SAFE``, by which ``read_table`` takes it away
    """
    data = _encode(header, columns, format, excel_safe=excel_safe)
    if isinstance(target, Path):
        write_bytes_atomic(target, data)
    else:
        target.write(data)
        target.flush()


class ResumableWriter:
    """A table that is written as its rows come, and continues where a killed writer of the same rows stopped.

    A context manager: at its end the table is at ``target``, whole; until then the old file stays. After an
    exception the rows so far wait beside ``target``, if there are ``SAVED_EVERY`` or more::

        .0a1b2c3d4e5f6789.part    the rows so far (JSON lines, if Parquet is asked for)
        .0a1b2c3d4e5f6789.json    how many of them are whole, and their identity

    A stream, such as stdout, is written to as rows come; in Parquet, at the end.

    Parameters
    ----------
    target : a path, or an open binary stream
    header, format, excel_safe : see ``write_rows``
    identity : of all that the rows depend on; rows of another identity are discarded
    """

    n_rows: int
    """Rows that are there, those of a killed writer included: the caller begins after them."""
    tally: int
    """A number of the caller's own that is kept with the rows."""

    def __init__(
        self,
        target: Path | ByteStream,
        header: Sequence[str],
        format: str = "csv",  # noqa: A002  # the word of the flag
        excel_safe: bool = False,
        identity: str = "",
    ) -> None:
        self.target, self.header, self.format = target, header, format
        self.excel_safe, self.identity = excel_safe, identity
        self.n_rows = self.tally = self._saved = 0
        self._lasting = True
        self._held_rows: list[list[object]] = [[] for _ in header]  # of a Parquet stream
        self._place = target if isinstance(target, Path) else Path("stdout")
        self._is_partial = False

    def __enter__(self) -> Self:
        self._out: Any = self.target
        if not isinstance(self.target, Path):
            return self
        with explain_write_errors(self.target):
            self._is_partial = self.target.is_file() or not self.target.exists()
            if not self._is_partial:  # a device or a pipe
                self._out = self.target.open("wb")
                return self
            # A hash, since the name itself may have all of the 255 bytes that a name can have.
            stem = f".{hashlib.sha256(os.fsencode(self.target.name)).hexdigest()[:16]}"
            self._part, self._state, lock = (
                self.target.with_name(stem + ending) for ending in (".part", ".json", ".lock")
            )
            self.target.parent.stat()  # else the lock would make the folder
            self._lock = FileLock(lock)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise BusyError(
                    f"{self.target}: another process writes there; wait until it has finished"
                ) from None
            self.n_rows, self.tally, n_bytes = self._read_state()
            self._saved = self.n_rows
            if not self.n_rows:
                # A kill before the next save would leave other rows under the old identity.
                self._state.unlink(missing_ok=True)
            self._out = self._part.open("r+b" if self.n_rows else "w+b")
            self._out.truncate(n_bytes)
            self._out.seek(n_bytes)
        return self

    def _read_state(self) -> tuple[int, int, int]:
        """Rows, tally and bytes that an earlier writer of this identity saved."""
        try:
            state = json.loads(self._state.read_bytes())
            rows, tally, n_bytes = (int(state[name]) for name in ("rows", "tally", "bytes"))
            is_ours = state["identity"] == self.identity and self._part.stat().st_size >= n_bytes
        except (OSError, ValueError, LookupError, TypeError):
            return 0, 0, 0
        return (rows, tally, n_bytes) if is_ours and min(rows, n_bytes) > 0 else (0, 0, 0)

    def add(self, columns: Sequence[Column], *, lasting: bool = True) -> None:
        """Write some rows, column by column.

        Parameters
        ----------
        lasting : False for rows that may differ at another time; a later writer begins before them
        """
        if self.format == "parquet":
            _check_unicode(self.header, columns, self.n_rows)
        if self.format == "parquet" and not self._is_partial:
            for held, more in zip(self._held_rows, columns, strict=True):
                held.extend(more)
        else:
            self._write_rows(columns)
        self.n_rows += len(columns[0])
        self._lasting &= lasting
        if self._is_partial and self._lasting and self.n_rows - self._saved >= SAVED_EVERY:
            self._save()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        is_finished = False
        try:
            if kind is None:
                self._finish()
                is_finished = True
        finally:
            if self._out is not self.target:
                with contextlib.suppress(OSError):  # a write that failed was reported before
                    self._out.close()
            if self._is_partial:
                if is_finished or self._saved == 0:
                    self._part.unlink(missing_ok=True)
                    self._state.unlink(missing_ok=True)
                Path(self._lock.lock_file).unlink(missing_ok=True)
                self._lock.release()

    def _finish(self) -> None:
        if self.format != "parquet":
            if self.n_rows == 0:
                self._write_rows(self._held_rows)
            if self._is_partial:
                self._save()
                with explain_write_errors(self._place):
                    self._part.replace(self._place)
                _sync_folder(self._place.parent)
        elif self._is_partial and self.n_rows:
            import polars as pl

            self._save()
            rows = pl.read_ndjson(self._part, infer_schema_length=None)
            write_bytes_atomic(self._place, parquet_bytes(rows.rechunk()))
        elif self._is_partial:
            write_bytes_atomic(self._place, _encode(self.header, self._held_rows, "parquet"))
        else:
            self._write(_encode(self.header, self._held_rows, "parquet"))

    def _write_rows(self, columns: Sequence[Column]) -> None:
        grown = "jsonl" if self.format == "parquet" else self.format
        headed = self.n_rows == 0
        self._write(_encode(self.header, columns, grown, excel_safe=self.excel_safe, headed=headed))

    def _write(self, data: bytes) -> None:
        with explain_write_errors(self._place, len(data)):
            self._out.write(data)
            if not self._is_partial:
                self._out.flush()

    def _save(self) -> None:
        """Flush all rows to disk, then record that they are whole."""
        with explain_write_errors(self._place):
            self._out.flush()
            os.fsync(self._out.fileno())
        n_bytes = self._out.tell()
        state = {"identity": self.identity, "rows": self.n_rows, "tally": self.tally, "bytes": n_bytes}
        write_json(self._state, state)
        self._saved = self.n_rows


def _encode(
    header: Sequence[str],
    columns: Sequence[Column],
    format: str,  # noqa: A002  # the word of the flag
    *,
    excel_safe: bool = False,
    headed: bool = True,
) -> bytes:
    """A table as bytes; without its header, in CSV, if they are to be added to others."""
    if format not in FORMATS:
        raise UsageError(f"expected --format {', '.join(FORMATS)}, got {format!r}")
    if len(header) != len(columns) or len(set(header)) < len(header):
        raise ValueError(f"expected a column for each name of {list(header)}, got {len(columns)}")
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"expected columns of one length, got {dict(zip(header, lengths, strict=True))}")
    if format == "csv":
        if excel_safe:
            header, columns = (*header, EXCEL_SAFE), (*columns, [True] * lengths[0])
        cells = [[_cell(value, excel_safe) for value in _plain(column)] for column in columns]
        lines = [",".join(_cell(name, excel_safe) for name in header)] if headed else []
        lines += [",".join(row) for row in zip(*cells, strict=True)]
        return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
    if format == "jsonl":
        rows = (dict(zip(header, row, strict=True)) for row in zip(*map(_plain, columns), strict=True))
        objects = (json.dumps(row, ensure_ascii=False, allow_nan=False, default=_plain_value) for row in rows)
        return "".join(escape_surrogates(line) + "\n" for line in objects).encode()
    import polars as pl

    _check_unicode(header, columns)
    return parquet_bytes(
        pl.DataFrame({name: list(_plain(column)) for name, column in zip(header, columns, strict=True)})
    )


def _cell(value: Any, excel_safe: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    text = value if isinstance(value, str) else repr(value)
    if excel_safe and isinstance(value, str):
        text = marked_cell(text)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def marked_cell(text: str) -> str:
    """The text of a cell as ``excel_safe`` writes it."""
    return "'" + text if _STARTS_FORMULA.match(text) else text


def plain_cell(text: str) -> str:
    """The text of a cell that was written with ``excel_safe``."""
    return re.sub(MARKED_FORMULA, r"\1", text)


def _check_unicode(header: Sequence[str], columns: Sequence[Column], rows_before: int = 0) -> None:
    """Refuse text that Parquet cannot hold, such as a file name of other bytes than UTF-8."""
    for name, column in zip(header, columns, strict=True):
        for row, value in enumerate(column, rows_before + 1):
            if isinstance(value, str) and not is_unicode(value):
                raise UsageError(
                    f"row {row} of {name!r} is {value!r}, which is not Unicode, as Parquet needs it; "
                    "write csv or jsonl instead"
                )


def parquet_bytes(frame: Any) -> bytes:
    """A polars frame as a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _plain(column: Column) -> Sequence[Any]:
    """Python's own values: NumPy's would be written as ``np.float64(0.5)``."""
    if isinstance(column, np.ndarray):
        plain: Sequence[Any] = column.tolist()
        return plain
    return [value.item() if hasattr(value, "item") else value for value in column]


def _plain_value(value: Any) -> Any:
    """NumPy arrays and numbers as Python's own; ``json`` calls it for types that it does not know."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"expected text, numbers, lists and dicts, got {type(value).__name__}")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    """Bring the renaming itself to disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
