"""Label tables as rows of strings, byte for byte; what would need a guess is refused with its line.

Cells are never converted: ``NA``, ``007``, ``1.0`` and `` x`` stay what they are.
"""

import codecs
import csv
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from assay.data.files import IMAGE_EXTENSIONS, allowed_format, extension
from assay.data.place import Place, Url, place_of
from assay.data.write import EXCEL_SAFE, plain_cell
from assay.errors import TableError
from assay.types import UNKNOWN

PATH_COLUMNS = ("path", "file_name", "filename", "filepath", "image", "image_path", "file")
"""Names of columns that hold the path of an image, whatever their case."""

LABEL_COLUMNS = ("label", "class", "target", "y", "category")
"""Names of columns that hold the label, whatever their case."""

ANNOTATOR_COLUMNS = ("annotator", "worker", "annotator_id", "worker_id")
"""Names of columns that say who gave a label, whatever their case."""

LINE_LIMIT = 2**20
"""Characters in a line; a longer one is refused before it is read to its end."""

_DEPTH_LIMIT = 32  # brackets within brackets in JSON; Python's own parser runs out of stack near 1,000
_DIGITS_LIMIT = 32  # characters of a number in JSON
_DELIMITERS = ",;\t|"
_SHOWN_COLUMNS = 5

WHITE_SPACE = " "
"""The delimiter of a file of paths and labels with any white space between them."""

_PATH_AND_LABEL = re.compile(
    rf"\s*(.*?(?:{'|'.join(map(re.escape, sorted(IMAGE_EXTENSIONS)))}))(?:\s+(\S.*?))?\s*", re.IGNORECASE
)

# First bytes of files that are often taken for text -> what they are, and what to do.
_OTHER_FILES = {
    b"PK\x03\x04": "a zip or a spreadsheet; unpack it, or save it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a spreadsheet; save it as CSV (UTF-8)",
    b"\x1f\x8b": "a gzip; unpack it",
}

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_SEPARATOR_LINE = re.compile(r"sep=.[\r\n]*", re.IGNORECASE)  # a spreadsheet's first line

# To the closing quote or to the end: a search that can fail would start again at each quote.
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\[\s\S]?)*(?:"|\Z)')

# A NUL, and halves of characters; those between stand for bytes that are not UTF-8, see ``check_decoded``.
_BAD_CHARACTER = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")


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
    """What ``line_numbers`` count: ``line``, or ``row`` in a file without lines."""
    delimiter: str = ","
    """Between the cells of CSV."""
    of_images: bool = False
    """Row i is of the i-th image, even where a path of the table names no image."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> the names of its labels 0, 1, …, where the file has them."""

    def where(self, row: int) -> str:
        """The place of a row, for a message: ``labels.csv line 17``."""
        return f"{self.path.name} {self.unit} {self.line_numbers[row]}"

    def column(self, place: int) -> tuple[str, ...]:
        """The cells of a column of labels; TableError for one that is not UTF-8."""
        cells = tuple(row[place] for row in self.rows)
        for row, cell in enumerate(cells):
            if not cell.isascii():
                check_decoded(cell, self.where(row))
        return cells


def read_table(path: Path, *, path_column: str | None = None, label_column: str | None = None) -> Table:
    """The table in a Parquet or JSON lines file, known by its ending; any other file is read as CSV.

    Parameters
    ----------
    path_column, label_column : further names by which the header of a CSV is recognised

    Raises
    ------
    TableError : a file that cannot be read without guessing; the message names the line
    """
    if isinstance(url := place_of(path), Url):
        raise TableError(f"expected a file on this machine, got {url}; copy it here first")
    if is_parquet(path):
        from assay.data.parquet import read_parquet  # polars is slow to import

        return read_parquet(path)
    if is_json(path):
        return _read_json_lines(path)
    return read_csv(path, [name for name in (path_column, label_column) if name is not None])


def table_of(columns: Any, name: str, *, of_images: bool = False) -> Table:
    """A table in memory as if it had been read: a mapping, a pandas or polars frame; or labels alone.

    Parameters
    ----------
    columns : names and their values, the label of each file name, or a sequence of labels that has no names;
        None, NaN, -1 and masked values are empty cells
    name : stands for the file name in messages
    of_images : see ``Table``
    """
    if isinstance(columns, Mapping) and all(isinstance(value, str | Integral) for value in columns.values()):
        columns = {"file": [*columns], "label": [*columns.values()]}
    header = [*columns] if isinstance(columns, Mapping) else getattr(columns, "columns", None)
    values = [columns] if header is None else [columns[column] for column in header]
    rows = tuple(zip(*([_cell(value) for value in column] for column in values), strict=True))
    named = None if header is None else tuple(map(str, header))
    numbers = tuple(range(1, len(rows) + 1))
    return Table(Path(name), named, rows, numbers, unit="row", of_images=of_images)


def is_json(path: Path) -> bool:
    """Whether the name is one of JSON, which must be lines with one object each."""
    return path.suffix.lower() in {".jsonl", ".ndjson", ".json"}


def is_parquet(path: Place) -> bool:
    """Whether the name is one of Parquet; the content is checked when it is read."""
    return path.suffix.lower() in {".parquet", ".pq"}


# Columns


def known_columns(columns: Sequence[str], known: Sequence[str]) -> list[int]:
    """The places of the columns whose name is in ``known``, whatever its case."""
    return [place for place, name in enumerate(columns) if name.strip().casefold() in known]


def find_columns(
    table: Table,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    label_flag: str = "--label-col",
) -> tuple[int, int | None]:
    """(column of the labels, column of the paths): a lone column has no paths, row i is of the i-th image.

    Parameters
    ----------
    path_column, label_column : names to use instead of the known ones
    label_flag : the flag that names the label column, for a message

    Raises
    ------
    TableError : no column or more than one fits
    """
    columns = table.columns or ()
    # One flag serves several files: where there is no such column, one of a known name is meant.
    paths = [place for place, name in enumerate(columns) if name == path_column]
    paths = paths or known_columns(columns, PATH_COLUMNS)
    paths = paths or known_columns(columns, ("name", "task"))  # last: some tables call the class so
    # A lone column of paths is what is left of a table whose labels are missing.
    if table.columns is None or (len(columns) == 1 and not paths):
        return 0, None
    path = _only(table, paths, "path", path_column, PATH_COLUMNS, "--path-col")
    return find_labels(table, label_column, label_flag), path


def find_labels(table: Table, label_column: str | None = None, flag: str = "--label-col") -> int:
    """The label column of a table alone; raises as ``find_columns`` does."""
    columns = table.columns or ()
    places = [place for place, name in enumerate(columns) if name == label_column]
    if label_column is None:
        places = known_columns(columns, LABEL_COLUMNS)
    return _only(table, places, "label", label_column, LABEL_COLUMNS, flag)


def _only(
    table: Table, places: Sequence[int], what: str, wanted: str | None, known: Sequence[str], flag: str
) -> int:
    if len(places) == 1:
        return places[0]
    expected = ", ".join(known) if wanted is None else shown(wanted)
    columns = table.columns or ()
    found = ", ".join(map(shown, columns))
    others = [name for name in columns if not known_columns([name], PATH_COLUMNS + LABEL_COLUMNS)]
    if wanted is None and not places and len(others) == 1:
        flag = f"{flag} {shlex.quote(others[0])}"
    count = len(places) or "none"
    raise TableError(
        f"{table.path.name}: expected one {what} column ({expected}), got {count} in {found}; "
        f"name it with {flag}"
    )


# CSV


def read_csv(path: Path, wanted: Sequence[str] = ()) -> Table:
    """The rows of delimited text, whatever the ending of its name.

    A first line that names a known path or label column, or a wanted one, is a header, and the delimiter is
    the one that makes it so. In any other file each line is the path of an image and a label, with a
    delimiter or white space between them, or else one label: a blank line is then an empty label. A table of
    several columns may have what spreadsheets add: blank lines, rows of empty cells, empty cells at the ends
    of rows, a first line ``sep=;``. Of a table with the column ``EXCEL_SAFE`` the marks of formulas are taken
    away.
    """
    delimiter, columns, before = _find_header(path, wanted)
    records = list(islice(_records(path, delimiter), before, None))
    if columns is None and _is_lone_header([cells for _, cells in records], wanted):
        columns = records[0][1]
    if columns is not None:
        del records[0]
    elif (pairs := _pairs(records)) is not None:
        delimiter = delimiter if max(len(cells) for _, cells in records) > 1 else WHITE_SPACE
        columns, records = ("path", "label"), pairs
    width = 1 if columns is None else len(columns)
    # Between rows of several cells a blank line is nothing; among labels alone it is an empty one.
    if columns is not None and width > 1:
        records = [(number, _padded(cells, columns)) for number, cells in records if any(cells)]
    else:
        records = [(number, cells or ("",)) for number, cells in records]
    for number, cells in records:
        if len(cells) == width:
            continue
        message = f"expected {width} cells as in the header, got {len(cells)}; quote a cell that holds "
        if columns is None:
            message = _no_header([cells for _, cells in records])
        raise TableError(f"{path.name} line {number}: {message}{delimiter!r}")
    numbers, rows = (number for number, _ in records), (cells for _, cells in records)
    if columns is not None and EXCEL_SAFE in columns:
        columns = tuple(map(plain_cell, columns))
        rows = (tuple(map(plain_cell, cells)) for cells in rows)
    return Table(path, columns, tuple(rows), tuple(numbers), delimiter=delimiter)


def _find_header(path: Path, wanted: Sequence[str]) -> tuple[str, tuple[str, ...] | None, int]:
    """(delimiter, columns if there is a header of several, how many blank or ``sep=`` lines are before it)"""
    first = ""
    for before, line in enumerate(read_lines(path)):
        first = first if before else line
        if line.strip() and not _SEPARATOR_LINE.fullmatch(line):
            delimiter, columns = _split_header(line, wanted)
            if columns is not None:
                return delimiter, columns, before
            break
    return _split_header(first, wanted)[0], None, 0


def _split_header(line: str, wanted: Sequence[str]) -> tuple[str, tuple[str, ...] | None]:
    """The delimiter that gives most known columns, and these; None without a known one."""
    wide: dict[str, tuple[str, ...]] = {}
    for delimiter in _DELIMITERS:
        try:
            cells = tuple(next(csv.reader([line], delimiter=delimiter, strict=True), ()))
        except csv.Error:  # a quote that closes in a later line
            continue
        if len(cells) > 1:
            wide[delimiter] = cells
    if not wide:
        return ",", None
    named = {
        delimiter: len(known_columns(cells, PATH_COLUMNS + LABEL_COLUMNS))
        + sum(name in cells for name in wanted)
        for delimiter, cells in wide.items()
    }
    best = max(named, key=named.__getitem__)  # of equals the first, a comma before a tab
    return (best, wide[best]) if named[best] else (next(iter(wide)), None)


def _is_lone_header(rows: Sequence[tuple[str, ...]], wanted: Sequence[str]) -> bool:
    """Whether a single column begins with its name: a name that never comes again is not a class."""
    if len(rows) < 2 or len(rows[0]) != 1:
        return False
    name = rows[0][0]
    # One letter alone is a label unless it was asked for: of yes and no, the only y may come first.
    known = len(name) > 1 and bool(known_columns(rows[0], LABEL_COLUMNS))
    return name in wanted or (known and rows.count(rows[0]) == 1)


def _pairs(records: Sequence[tuple[int, tuple[str, ...]]]) -> list[tuple[int, tuple[str, ...]]] | None:
    """The path and label of each line that is not blank; None if one does not begin with an image's path."""
    rows = [(number, cells) for number, cells in records if any(map(str.strip, cells))]
    if all(len(cells) == 1 for _, cells in rows):
        split = [(number, _PATH_AND_LABEL.fullmatch(cells[0])) for number, cells in rows]
        rows = [(number, found.groups("")) for number, found in split if found]
        if len(rows) < len(split):
            return None
    are_pairs = all(len(cells) == 2 and extension(cells[0]) in IMAGE_EXTENSIONS for _, cells in rows)
    return rows if are_pairs and any(cells[1] for _, cells in rows) else None


def _no_header(rows: Sequence[tuple[str, ...]]) -> str:
    """What to do about several columns without a known name; ends before the delimiter."""
    first, widths = rows[0], {len(cells) for cells in rows}
    paths, labels = "--path-col", "--label-col"
    if len(rows) > 1 and widths == {2} and extension(rows[1][0]) in IMAGE_EXTENSIONS:
        paths, labels = f"{paths} {shlex.quote(first[0])}", f"{labels} {shlex.quote(first[1])}"
    return (
        f"expected a header with a column of paths ({', '.join(PATH_COLUMNS)}) and one of labels "
        f"({', '.join(LABEL_COLUMNS)}), got {some(first, _SHOWN_COLUMNS)}; name the columns with {paths} and "
        f"{labels}, or, if these are labels, quote one that holds "
    )


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each record with the line it begins in."""
    reader = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in reader:
            yield number, tuple(cells)
            number = reader.line_num + 1
    except csv.Error as error:
        # The reader's own limit on a cell (128 KiB) also bounds the memory that an open quote can take.
        advice = 'is there a quote (") that does not close, or one inside a cell?'
        raise TableError(f"{path.name} line {number}: {error}; {advice}") from None


def _padded(cells: tuple[str, ...], columns: tuple[str, ...]) -> tuple[str, ...]:
    """The cells without empty ones beyond the columns, and with empty ones where columns have no name."""
    width = len(columns)
    if any(cells[width:]) or any(columns[len(cells) :]):
        return cells
    return cells[:width] + ("",) * (width - len(cells))


# JSON lines


def _read_json_lines(path: Path) -> Table:
    """One object a line; its keys are the columns, and a missing key is an empty cell.

    Strings and numbers become cells as they are written (``1.0`` stays ``1.0``), ``null`` an empty one. A key
    that holds a list or an object anywhere is left out: it can be neither a name nor a label.
    """
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            records.append(_json_record(line))
        except ValueError as error:
            advice = "expected one object a line, with file_name and label"
            if path.suffix.lower() == ".json":
                other = "convert other JSON, such as COCO's or Label Studio's"
                advice += f"; {other}, to a CSV with columns path and label"
            raise TableError(f"{path.name} line {number}: bad_json: {error}; {advice}") from None
        numbers.append(number)
    nested = {key for record in records for key, value in record.items() if isinstance(value, list | dict)}
    columns = tuple(dict.fromkeys(key for record in records for key in record if key not in nested))
    rows = tuple(tuple(_cell(record.get(column)) for column in columns) for record in records)
    return Table(path, columns, rows, tuple(numbers))


def _json_record(line: str) -> dict[str, Any]:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _JSON_STRING.sub("", line)):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEPTH_LIMIT:
            raise ValueError(f"nested deeper than {_DEPTH_LIMIT}")
    record = json.loads(
        line, object_pairs_hook=unique_keys, parse_int=_digits, parse_float=_digits, parse_constant=_digits
    )
    if not isinstance(record, dict):
        raise ValueError(f"got {shown(line.strip())}")
    return record


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as a hook of ``json.loads``; ValueError for a key that comes twice, and for bad text."""
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"the key {shown(key)} comes twice")
        for text in (key, value):
            if isinstance(text, str) and _BAD_CHARACTER.search(text):
                what = "a NUL character" if "\0" in text else f"half of a character in {shown(text)}"
                raise ValueError(what)
        record[key] = value
    return record


def _digits(text: str) -> str:
    if len(text) > _DIGITS_LIMIT:
        raise ValueError(f"a number of {len(text):,} characters")
    if text.lstrip("-")[0].isalpha():
        raise ValueError(f"{text} is not a JSON number")
    return text


def is_missing(value: Any) -> bool:
    """Whether a value in memory is none: None, NaN, or what pandas and masked arrays have in its place."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, Real) and math.isnan(value)


def _cell(value: Any) -> str:
    """A value as text; missing ones are empty, in memory also NaN and -1 (numbers of JSON are text here)."""
    if is_missing(value):
        return ""
    kind = type(value).__name__
    if isinstance(value, bool) or kind in ("bool", "bool_"):
        return str(value).lower()
    if isinstance(value, Integral):
        return "" if value == UNKNOWN else str(int(value))
    if not isinstance(value, Real):
        return str(value)
    number = float(value)
    if number == UNKNOWN:
        return ""
    # A column of integers with gaps comes as floats: 3.0 is class 3.
    return str(int(number)) if number.is_integer() else str(value)


# Text


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends (LF, CRLF or CR), in bounded memory.

    Bytes that are not UTF-8 become surrogate escapes, for the reader to accept or refuse.

    Raises
    ------
    TableError : a file that cannot be opened or decoded, has a NUL, or a line longer than LINE_LIMIT
    """
    number = 0
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            what = "a folder" if path.is_dir() else "a pipe or a device; write it to a file first"
            raise TableError(f"cannot read {path}: expected a file, got {what}")
        with path.open("rb") as start:
            head = start.read(8)
        for mark, what in _OTHER_FILES.items():
            if head.startswith(mark):
                raise TableError(f"{path.name}: expected text, got {what}")
        if allowed_format(head):
            raise TableError(f"{path.name}: expected text, got an image; give a table of labels")
        marked = (name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark))
        encoding = next(marked, "utf-8")
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        with path.open(encoding=encoding, errors=errors, newline="") as file:
            while line := file.readline(LINE_LIMIT + 1):  # never more than this in memory
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
    """TableError for text that was not UTF-8, with its first such byte."""
    byte = next((ord(letter) - 0xDC00 for letter in text if "\ud800" <= letter <= "\udfff"), None)
    if byte is not None:
        what = f"byte 0x{byte:02X}" if 0x80 <= byte <= 0xFF else "half a surrogate pair"
        raise TableError(f"{where}: {what} of {shown(text)} is not UTF-8; save the file as UTF-8")


def shown(text: str) -> str:
    """``text`` quoted for a message: control characters escaped, its end cut off if it is long."""
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}… ({len(text):,} characters)"


def some(names: Sequence[str], most: int) -> str:
    """The first ``most`` names for a message, and how many more there are: ``'a', 'b' and 3 more``."""
    more = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {more:,} more" if more > 0 else "")
