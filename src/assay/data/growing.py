"""A table that is written as its rows come, and goes on where it was when its writer was killed.

::

    .0a1b2c3d4e5f6789.part    the rows so far
    .0a1b2c3d4e5f6789.json    how many of them are whole, and whose they are
    predictions.csv           what was there before stays until the last row is written

CSV and JSON lines grow on disk; the rows of a Parquet file are JSON lines until the last is there. A stream,
such as stdout, is written to as rows come, in Parquet at the end.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from assay.data.write import refused, sync_folder, write_bytes_atomic, write_json
from assay.data.write_rows import ByteStream, Column, check_unicode, encode_rows, parquet_of_jsonl
from assay.errors import BusyError

SAVED_EVERY = 4_096
"""Rows after which those so far are brought to disk; a kill costs no more."""


class _Part:
    """The file beside the target."""

    def __init__(self, target: Path) -> None:
        self.target = target
        # A name may have 255 bytes.
        self.path = target.with_name(f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.part")
        self.state, self.lock = (self.path.with_suffix(ending) for ending in (".json", ".lock"))

    def open(self, identity: str) -> tuple[int, int]:
        """Rows that are there, ours and whole, and their tally; all else is begun anew."""
        with refused(self.path, 0):
            self.path.parent.stat()  # else the lock would make it
            self._held = FileLock(self.lock)
            try:
                self._held.acquire(timeout=0)
            except Timeout:
                raise BusyError(f"{self.target}: another process writes there; wait for it to end") from None
            rows, tally, n_bytes = self._found(identity)
            if not rows:  # or a kill before the next save would leave other rows under the old identity
                self.state.unlink(missing_ok=True)
            self._file = self.path.open("r+b" if rows else "w+b")
            self._file.truncate(n_bytes)
            self._file.seek(n_bytes)
        return rows, tally

    def _found(self, identity: str) -> tuple[int, int, int]:
        try:
            facts = json.loads(self.state.read_bytes())
            rows, tally, n_bytes = (int(facts[name]) for name in ("rows", "tally", "bytes"))
            ours = facts["identity"] == identity and self.path.stat().st_size >= n_bytes
        except (OSError, ValueError, LookupError, TypeError):
            return 0, 0, 0
        return (rows, tally, n_bytes) if ours and min(rows, n_bytes) > 0 else (0, 0, 0)

    def write(self, data: bytes) -> None:
        with refused(self.target, len(data)):
            self._file.write(data)

    def save(self, identity: str, rows: int, tally: int) -> None:
        """Bring all to disk."""
        with refused(self.target, 0):
            self._file.flush()
            os.fsync(self._file.fileno())
        facts = {"identity": identity, "rows": rows, "tally": tally, "bytes": self._file.tell()}
        write_json(self.state, facts)

    def rename(self) -> None:
        with refused(self.target, 0):
            self.path.replace(self.target)
        sync_folder(self.target.parent)

    def close(self, *, forget: bool) -> None:
        with contextlib.suppress(OSError):  # what could not be written was said before
            self._file.close()
        if forget:
            self.path.unlink(missing_ok=True)
            self.state.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)
        self._held.release()


@dataclass
class ResumableWriter:
    """Rows to be added to; as a context manager, at its end they are at ``target``, whole.

    After an exception the rows so far wait beside ``target`` for the same table to go on with, if there are
    ``SAVED_EVERY`` or more.

    Raises
    ------
    ResourceError, UsageError : the place cannot be written to
    BusyError : another process writes there
    """

    target: Path | ByteStream
    """A path, or an open binary stream."""
    header: Sequence[str]
    format: str = "csv"
    """``csv``, ``jsonl`` or ``parquet``."""
    excel_safe: bool = False
    identity: str = ""
    """Of all that the rows depend on: only rows of the same identity are gone on with."""
    n_rows: int = 0
    """Rows that are there, those of a killed writer included: whoever writes begins after them."""
    tally: int = 0
    """A number of the writer's own that is kept with the rows."""
    _saved: int = 0
    _lasting: bool = True
    _part: _Part | None = None
    _stream: ByteStream | None = None
    _waiting: list[list[object]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Open the place; ``n_rows`` tells what is there."""
        if not isinstance(self.target, Path):
            self._stream = self.target
        elif self.target.exists() and not self.target.is_file():
            with refused(self.target, 0):
                self._stream = self.target.open("wb")
        else:
            self._part = _Part(self.target)
            self.n_rows, self.tally = self._part.open(self.identity)
            self._saved = self.n_rows
        return self

    def add(self, columns: Sequence[Column], *, lasting: bool = True) -> None:
        """Write some rows, column by column.

        Parameters
        ----------
        lasting : False of rows that may be others at another time: whoever goes on begins before them

        Raises
        ------
        ResourceError, UsageError, ValueError : as ``write_rows``
        """
        if self.format == "parquet":
            check_unicode(self.header, columns, self.n_rows)
        if self.format == "parquet" and self._stream is not None:
            self._waiting = self._waiting or [[] for _ in self.header]
            for column, more in zip(self._waiting, columns, strict=True):
                column.extend(more)
        else:
            self._write(self._encoded(columns, headed=self.n_rows == 0))
        self.n_rows += len(columns[0])
        self._lasting &= lasting
        if self._part and self._lasting and self.n_rows - self._saved >= SAVED_EVERY:
            self._part.save(self.identity, self.n_rows, self.tally)
            self._saved = self.n_rows

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Give the rows their name, or leave them to be gone on with."""
        finished = False
        try:
            if kind is None:
                self._finish()
                finished = True
        finally:
            if self._part:
                self._part.close(forget=finished or self._saved == 0)
            if self._stream is not None and isinstance(self.target, Path):
                with contextlib.suppress(OSError):  # what could not be written was said before
                    self._stream.close()  # type: ignore[attr-defined]  # it was opened here

    def _finish(self) -> None:
        if self.format == "parquet":
            self._finish_parquet()
            return
        if self.n_rows == 0:
            self._write(self._encoded([[] for _ in self.header], headed=True))
        if self._part:
            self._part.save(self.identity, self.n_rows, self.tally)
            self._part.rename()

    def _finish_parquet(self) -> None:
        if self._part and self.n_rows:
            self._part.save(self.identity, self.n_rows, self.tally)
            self._saved = self.n_rows
            data = parquet_of_jsonl(self._part.path)
        else:
            data = encode_rows(self.header, self._waiting or [[] for _ in self.header], format="parquet")
        if self._part:
            write_bytes_atomic(self._part.target, data)
        else:
            self._write(data)

    def _encoded(self, columns: Sequence[Column], *, headed: bool) -> bytes:
        grown = "jsonl" if self.format == "parquet" else self.format
        return encode_rows(self.header, columns, format=grown, excel_safe=self.excel_safe, headed=headed)

    def _write(self, data: bytes) -> None:
        if self._part:
            self._part.write(data)
        elif self._stream is not None:
            place = self.target if isinstance(self.target, Path) else Path("stdout")
            with refused(place, len(data)):
                self._stream.write(data)
                self._stream.flush()
