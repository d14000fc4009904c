"""A copy of the input's label file with corrected labels: every byte that is not such a label stays."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.data.dataset import Listing, ReadOptions
from assay.data.matching import LabelRows, match_rows
from assay.data.memory import MemorySource
from assay.data.place import Place
from assay.data.tables import WHITE_SPACE, Table, find_columns, is_json, is_parquet, read_lines, read_table
from assay.data.write import EXCEL_SAFE, escape_surrogates, marked_cell, write_bytes_atomic
from assay.errors import UsageError

_UTF8_MARK = b"\xef\xbb\xbf"

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")


def relabel(
    source: Path,
    target: Path,
    labels: Mapping[str, str],
    names: Sequence[str],
    *,
    images: Place,
    options: ReadOptions | None = None,
) -> int:
    """Write the label file ``source`` to ``target`` with the labels of some images replaced.

    Rows of other images keep their bytes, rows that change keep their other cells; UTF-16 and UTF-32
    become UTF-8.

    Parameters
    ----------
    labels : image name -> its label now
    names : every image in the order of its place, for a file of labels without names
    images : that place, from which the paths in ``source`` may begin
    options : how the file is read

    Returns
    -------
    The number of rows that were replaced.

    Raises
    ------
    TableError : as ``read_table``
    DataError : as ``match_rows``
    UsageError : Parquet, or ``target`` is the file itself
    """
    if target.exists() and target.samefile(source):
        raise UsageError(f"{target}: expected another file than the labels themselves; choose another name")
    options = options or ReadOptions()
    table = read_table(source, path_column=options.path_column, label_column=options.label_column)
    if is_parquet(source) or table.delimiter == WHITE_SPACE:
        kind = "Parquet" if is_parquet(source) else "paths and labels with spaces between them"
        raise UsageError(
            f"{source.name}: expected CSV or JSON lines, got {kind}, which cannot be changed in place; "
            "write a new file with 'assay labels RUN -o corrected.csv'"
        )
    place, paths = find_columns(table, path_column=options.path_column, label_column=options.label_column)
    entries = None if paths is None else tuple(cells[paths] for cells in table.rows)
    rows = LabelRows(table, table.column(place), entries)
    listing = Listing(tuple(names), MemorySource(()))  # no image is read
    rows = match_rows(rows, listing, images, options, complete=False)
    found = {row: names[image] for row, image in enumerate(rows.images or ()) if image is not None}
    new = {
        row: labels[name]
        for row, name in found.items()
        if labels.get(name, rows.labels[row]) != rows.labels[row]
    }
    lines = list(read_lines(source))
    if is_json(source):
        for row, label in new.items():
            number, key = table.line_numbers[row] - 1, (table.columns or ())[place]
            lines[number] = escape_surrogates(_with_value(lines[number], key, label))
    else:
        if EXCEL_SAFE in (table.columns or ()):
            new = {row: marked_cell(label) for row, label in new.items()}
        _replace_cells(lines, table, new, place)
    mark = _UTF8_MARK if source.read_bytes().startswith(_UTF8_MARK) else b""
    write_bytes_atomic(target, mark + "".join(lines).encode("utf-8", "surrogateescape"))
    return len(new)


def _replace_cells(lines: list[str], table: Table, new: Mapping[int, str], place: int) -> None:
    delimiter, numbers = table.delimiter, table.line_numbers
    for row, label in new.items():
        first = numbers[row] - 1
        following = numbers[row + 1] - 1 if row + 1 < len(numbers) else len(lines)
        # A record may have quoted line breaks, and blank lines after it.
        reader = csv.reader(lines[first:following], delimiter=delimiter)
        cells = next(reader, [""]) or [""]
        last = first + max(reader.line_num, 1)
        written = "".join(lines[first:last])
        end = written[len(written.rstrip("\r\n")) :]
        cells[place] = label
        record = io.StringIO(newline="")
        csv.writer(record, delimiter=delimiter, lineterminator="").writerow(cells)
        # As many lines as before, so that line numbers stay right.
        lines[first:last] = [record.getvalue() + end, *[""] * (last - first - 1)]


def _with_value(line: str, key: str, label: str) -> str:
    """A line with one JSON object in which ``key`` has another value, or a first one."""
    start, end = _value(line, key)
    was_number = line[start:end].lstrip("-")[:1].isdigit()
    text = label if was_number and _NUMBER.fullmatch(label) else json.dumps(label, ensure_ascii=False)
    if start < end:
        return line[:start] + text + line[end:]
    comma = ", " if line[line.index("{") + 1 : start].strip() else ""
    return f"{line[:start]}{comma}{json.dumps(key, ensure_ascii=False)}: {text}{line[start:]}"


def _value(line: str, key: str) -> tuple[int, int]:
    """Where the value of ``key`` begins and ends; the end of the last value, twice, if there is none."""
    decoder, place = json.JSONDecoder(), line.index("{") + 1
    end = place
    while line[(place := _past_signs(line, place))] != "}":
        name, place = decoder.raw_decode(line, place)
        start = _past_signs(line, place)
        _, place = decoder.raw_decode(line, start)
        if name == key:
            return start, place
        end = place
    return end, end


def _past_signs(line: str, place: int) -> int:
    # Either sign will do: the line is known to be JSON.
    return len(line) - len(line[place:].lstrip(" \t\r\n,:"))
