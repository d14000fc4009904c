"""The input's own label file with other labels: every byte that is not such a label stays."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay._errors import UsageError
from assay.data.label_files import LabelFile, is_parquet, read_any_table, read_label_file
from assay.data.tables import DELIMITERS, LABEL_COLUMNS, known_columns, read_lines
from assay.data.write import escape_surrogates, write_bytes_atomic

_UTF8_MARK = b"\xef\xbb\xbf"


def relabel(
    source: Path,
    target: Path,
    labels: Mapping[str, str],
    names: Sequence[str],
    *,
    path_column: str | None = None,
    label_column: str | None = None,
) -> int:
    """Write the label file ``source`` to ``target`` with the labels of some images replaced.

    Rows of other images keep their bytes, rows that change keep their other cells; UTF-16 and UTF-32
    become UTF-8.

    Parameters
    ----------
    labels : image name -> its label now
    names : every image in the order of labels.csv, for a file of labels without names

    Returns
    -------
    The number of rows that were replaced.

    Raises
    ------
    TableError : as ``read_label_file``
    UsageError : Parquet, or ``target`` is the file itself
    """
    if is_parquet(source):
        raise UsageError(f"{source.name}: expected CSV or JSON lines, got Parquet; export to .csv instead")
    if target.exists() and target.samefile(source):
        raise UsageError(f"{target}: expected another file than the labels themselves; name another")
    file = read_label_file(source, path_column=path_column, label_column=label_column)
    new = _new_labels(file, labels, names)
    lines = list(read_lines(source))
    if source.suffix.lower() in {".jsonl", ".ndjson"}:
        _replace_json(lines, file, new, label_column)
    else:
        _replace_cells(lines, file, new, label_column, path_column)
    mark = _UTF8_MARK if source.read_bytes().startswith(_UTF8_MARK) else b""
    write_bytes_atomic(target, mark + "".join(lines).encode("utf-8", "surrogateescape"))
    return len(new)


def _new_labels(file: LabelFile, labels: Mapping[str, str], names: Sequence[str]) -> dict[int, str]:
    """Row of the file -> its label, where it is another than it was."""
    entries = file.entries if file.entries is not None else names
    rows = zip(entries, file.labels, strict=False)
    return {
        row: labels[name]
        for row, (name, label) in enumerate(rows)
        if name in labels and labels[name] != label
    }


def _replace_cells(
    lines: list[str],
    file: LabelFile,
    new: Mapping[int, str],
    label_column: str | None,
    path_column: str | None,
) -> None:
    table = read_any_table(file.path, path_column=path_column, label_column=label_column)
    delimiter = _delimiter(lines[0], table.columns)
    place = _place(table.columns or ("label",), label_column)
    for row, label in new.items():
        first = file.line_numbers[row] - 1
        last = file.line_numbers[row + 1] - 1 if row + 1 < len(file.labels) else len(lines)
        record = "".join(lines[first:last])
        end = record[len(record.rstrip("\r\n")) :]
        # A record may have quoted line breaks; blank lines after it stay with it.
        cells = next(csv.reader(io.StringIO(record, newline=""), delimiter=delimiter), [""]) or [""]
        cells[place] = label
        lines[first:last] = [_record(cells, delimiter) + end, *[""] * (last - first - 1)]


def _record(cells: Sequence[str], delimiter: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow(cells)
    return text.getvalue()


def _delimiter(header: str, columns: tuple[str, ...] | None) -> str:
    """The one that splits the header into the columns that were read."""
    split = {sign: tuple(next(csv.reader([header], delimiter=sign), ())) for sign in DELIMITERS}
    return next((sign for sign, cells in split.items() if cells == columns), ",")


def _place(columns: Sequence[str], label_column: str | None) -> int:
    if len(columns) == 1:
        return 0
    if label_column is not None:
        return columns.index(label_column)
    return known_columns(tuple(columns), LABEL_COLUMNS)[0]


def _replace_json(
    lines: list[str], file: LabelFile, new: Mapping[int, str], label_column: str | None
) -> None:
    for row, label in new.items():
        number = file.line_numbers[row] - 1
        end = lines[number][len(lines[number].rstrip("\r\n")) :]
        fields = json.loads(lines[number])
        key = tuple(fields)[_place(tuple(fields), label_column)]
        fields[key] = label
        lines[number] = escape_surrogates(json.dumps(fields, ensure_ascii=False)) + end
