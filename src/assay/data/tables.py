"""Label files as rows of strings, byte for byte; whatever would need a guess is refused with its line.

Reads comma, semicolon, tab or bar separated text with or without a header. Cells are never converted:
``NA``, ``007``, ``1.0`` and `` x`` stay what they are. Text is UTF-8, or UTF-16 and UTF-32 with their mark.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from assay.errors import TableError

PATH_COLUMNS = ("path", "file_name", "filename", "filepath", "image", "image_path", "file")
"""Column names that are taken for the path of an image, whatever their case."""

LABEL_COLUMNS = ("label", "class", "target", "y", "category")
"""Column names that are taken for the label, whatever their case."""

DELIMITERS = ",;\t|"

LINE_LIMIT = 2**20
"""Characters in a line; a longer one is refused before it is read to its end."""

_OTHER_FILES = {
    b"PK\x03\x04": "a zip or a spreadsheet; unpack it, or save it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a spreadsheet; save it as CSV (UTF-8)",
    b"\x1f\x8b": "a gzip; unpack it",
}
"""First bytes of files that are often taken for text -> what they are, and what to do."""

_SEPARATOR = re.compile(r"sep=.[\r\n]*", re.IGNORECASE)
"""A first line by which a spreadsheet is told the delimiter."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Table:
    """The rows of a file, all of one width."""

    path: Path
    columns: tuple[str, ...] | None
    """The names in the header; None when there is none, and then a row has one cell."""
    rows: tuple[tuple[str, ...], ...]
    """Bytes that are not UTF-8 are kept as surrogate escapes: a file name may have them."""
    line_numbers: tuple[int, ...]
    """Where each row begins, counted from 1, the header included."""
    unit: str = "line"
    """What ``line_numbers`` count: ``line``, or ``row`` in a file that has no lines."""
    delimiter: str = ","
    """Between the cells of delimited text."""

    def where(self, row: int) -> str:
        """The place of a row, for a message: ``labels.csv line 17``."""
        return f"{self.path.name} {self.unit} {self.line_numbers[row]}"


def read_table(path: Path, *, path_column: str | None = None, label_column: str | None = None) -> Table:
    """The rows of a delimited text file.

    A first line that names a known path or label column (or one of the two given here) is a header,
    and the delimiter is the one that makes it so. Otherwise the file must be one label a line: a blank
    line is then an empty label. A file with a header of several columns may have what spreadsheets add:
    blank lines, rows of empty cells, empty cells at the ends of rows, a first line ``sep=;``.

    Raises
    ------
    TableError : no such file; text that is not in a known encoding, or has a NUL; a line longer than
        LINE_LIMIT; a quote that does not close; rows of unequal width; several columns and no header
    """
    wanted = tuple(name for name in (path_column, label_column) if name is not None)
    first, before = _first_line(path, wanted)
    delimiter, columns = _header(first, wanted)
    numbers: list[int] = []
    rows: list[tuple[str, ...]] = []
    for number, cells in islice(_records(path, delimiter), before, None):
        numbers.append(number)
        rows.append(tuple(cells))
    if columns is None and _is_lone_header(rows, wanted):
        columns = rows[0]
    if columns is not None:
        del rows[0], numbers[0]
    return _rectangular(path, columns, rows, numbers, delimiter)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends (LF, CRLF or CR), in bounded memory.

    Bytes that are not UTF-8 become surrogate escapes, for the reader to accept or refuse.

    Raises
    ------
    TableError : the file cannot be opened or decoded, has a NUL, or a line longer than LINE_LIMIT
    """
    number = 0
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise TableError(
                f"cannot read {path}: expected a file, got a pipe or a device; write it to a file first"
            )
        encoding = _encoding(path)
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        with path.open(encoding=encoding, errors=errors, newline="") as file:
            while line := file.readline(LINE_LIMIT + 1):
                number += 1
                where = f"{path.name} line {number}"
                if len(line) > LINE_LIMIT:
                    raise TableError(f"{where}: expected at most {LINE_LIMIT:,} characters in a line")
                if "\0" in line:
                    raise TableError(f"{where}: a NUL character; save the file as UTF-8 text")
                yield line
    except UnicodeDecodeError as error:
        raise TableError(f"{path.name} after line {number}: not {error.encoding} ({error.reason})") from None
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from None


def check_decoded(text: str, where: str) -> None:
    """Refuse text that was not UTF-8.

    Raises
    ------
    TableError : names the first byte that is not UTF-8
    """
    if text.isascii():
        return
    byte = next((ord(letter) - 0xDC00 for letter in text if "\ud800" <= letter <= "\udfff"), None)
    if byte is not None:
        what = f"byte 0x{byte:02X}" if 0x80 <= byte <= 0xFF else "half a surrogate pair"
        raise TableError(f"{where}: {what} of {shown(text)} is not UTF-8; save the file as UTF-8")


def shown(text: str, limit: int = 60) -> str:
    """``text`` quoted for a message: control characters escaped, its end cut off if it is long."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}… ({len(text):,} characters)"


def some(names: Sequence[str], most: int) -> str:
    """The first ``most`` names for a message, and how many more there are: ``'a', 'b' and 3 more``."""
    more = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def known_columns(columns: tuple[str, ...], known: tuple[str, ...]) -> list[int]:
    """The places of those columns whose name is in ``known``, whatever its case."""
    return [place for place, name in enumerate(columns) if name.strip().casefold() in known]


def path_columns(columns: tuple[str, ...], wanted: str | None = None) -> list[int]:
    """The places of the columns that may hold paths.

    Several files are read with one ``wanted`` name, so that one that has no such column has a column of a
    known name, or else one that is called as in the tables of assay.
    """
    named = [place for place, name in enumerate(columns) if name == wanted]
    return named or known_columns(columns, PATH_COLUMNS) or known_columns(columns, ("name",))


def _encoding(path: Path) -> str:
    """By its mark; TableError if it is known to be no text."""
    with path.open("rb") as file:
        head = file.read(8)
    for start, words in _OTHER_FILES.items():
        if head.startswith(start):
            raise TableError(f"{path.name}: expected text, got {words}")
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")


def _first_line(path: Path, wanted: tuple[str, ...]) -> tuple[str, int]:
    """The first line, or the header after lines that say nothing, and how many lines come before it."""
    first = ""
    for before, line in enumerate(read_lines(path)):
        first = first if before else line
        if line.strip() and not _SEPARATOR.fullmatch(line):
            return (line, before) if _header(line, wanted)[1] is not None else (first, 0)
    return first, 0


def _header(line: str, wanted: tuple[str, ...]) -> tuple[str, tuple[str, ...] | None]:
    """The delimiter of the file, and its columns if ``line`` is a header of several."""
    splits = {delimiter: _split(line, delimiter) for delimiter in DELIMITERS}
    wide = {delimiter: cells for delimiter, cells in splits.items() if len(cells) > 1}
    if not wide:
        return ",", None
    best = max(wide, key=lambda delimiter: _named(wide[delimiter], wanted))
    return (best, wide[best]) if _named(wide[best], wanted) else (next(iter(wide)), None)


def _split(line: str, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([line], delimiter=delimiter, strict=True), ()))
    except csv.Error:  # a quote that closes in a later line
        return ()


def _named(cells: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    known = known_columns(cells, PATH_COLUMNS + LABEL_COLUMNS)
    return len(known) + sum(name in cells for name in wanted)


def _is_lone_header(rows: list[tuple[str, ...]], wanted: tuple[str, ...]) -> bool:
    """Whether a single column begins with its name: a name that never comes again is not a class.

    One letter alone is a label unless it was asked for: of yes and no, the only yes may come first.
    """
    if len(rows) < 2 or len(rows[0]) != 1:
        return False
    name = rows[0][0]
    known = len(name) > 1 and bool(known_columns(rows[0], LABEL_COLUMNS))
    return name in wanted or (known and rows.count(rows[0]) == 1)


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins in."""
    reader = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in reader:
            yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        # The reader's own limit on a cell (128 KiB) also bounds the memory that an open quote can take.
        advice = 'is there a quote (") that does not close, or one inside a cell?'
        raise TableError(f"{path.name} line {number}: {error}; {advice}") from None


def _rectangular(
    path: Path,
    columns: tuple[str, ...] | None,
    rows: list[tuple[str, ...]],
    numbers: list[int],
    delimiter: str,
) -> Table:
    if columns is not None and len(columns) > 1:
        numbers = [number for number, cells in zip(numbers, rows, strict=True) if any(cells)]
        rows = [_as_wide_as(columns, cells) for cells in rows if any(cells)]
    else:
        rows = [cells or ("",) for cells in rows]
    width = 1 if columns is None else len(columns)
    for number, cells in zip(numbers, rows, strict=True):
        if len(cells) != width:
            raise TableError(f"{path.name} line {number}: {_ragged(columns, cells, delimiter)}")
    return Table(path, columns, tuple(rows), tuple(numbers), delimiter=delimiter)


def _as_wide_as(columns: tuple[str, ...], cells: tuple[str, ...]) -> tuple[str, ...]:
    """The cells without empty ones beyond the columns, and with empty ones where columns have no name."""
    width = len(columns)
    if any(cells[width:]) or any(columns[len(cells) :]):
        return cells
    return cells[:width] + ("",) * (width - len(cells))


def _ragged(columns: tuple[str, ...] | None, cells: tuple[str, ...], delimiter: str) -> str:
    if columns is not None:
        expected = f"expected {len(columns)} cells as in the header, got {len(cells)}"
        return f"{expected}; quote a cell that holds {delimiter!r}"
    return (
        f"expected one label a line in a file without a header, got {len(cells)} cells; "
        "add a header such as 'path,label', name the columns with --path-col and --label-col, "
        f"or quote a label that holds {delimiter!r}"
    )
