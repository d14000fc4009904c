"""What a label file says: a label for each row, and the image's path where it has one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.data.jsonl import read_jsonl
from assay.data.tables import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    Table,
    check_decoded,
    known_columns,
    path_columns,
    read_table,
    shown,
    some,
)
from assay.errors import TableError

SHOWN = 5
"""Columns named in a note."""


@dataclass(frozen=True)
class LabelFile:
    """Labels in the order of a file, byte for byte."""

    path: Path
    labels: tuple[str, ...]
    """The empty string where the label is missing."""
    entries: tuple[str, ...] | None
    """The image of each row as the file names it; None if row i belongs to the i-th image."""
    line_numbers: tuple[int, ...]
    unit: str = "line"

    def where(self, row: int) -> str:
        """The place of a row, for a message: ``labels.csv line 17``."""
        return f"{self.path.name} {self.unit} {self.line_numbers[row]}"


def read_label_file(
    path: Path, *, path_column: str | None = None, label_column: str | None = None
) -> LabelFile:
    """The labels in a CSV, JSON lines or Parquet file; see ``read_any_table`` and ``pick_columns``."""
    table = read_any_table(path, path_column=path_column, label_column=label_column)
    return pick_columns(table, path_column=path_column, label_column=label_column)


def read_any_table(path: Path, *, path_column: str | None = None, label_column: str | None = None) -> Table:
    """The table in a Parquet or JSON lines file, told by its ending; anything else is read as CSV.

    Raises
    ------
    TableError : the file cannot be read
    """
    if is_parquet(path):
        from assay.data.parquet import read_parquet  # polars is slow to import

        return read_parquet(path)
    if is_json(path):
        return _read_json(path)
    return read_table(path, path_column=path_column, label_column=label_column)


def is_json(path: Path) -> bool:
    """Whether the name says JSON, of which lines with an object each are read."""
    return path.suffix.lower() in {".jsonl", ".ndjson", ".json"}


def _read_json(path: Path) -> Table:
    try:
        return read_jsonl(path)
    except TableError as error:
        if path.suffix.lower() != ".json":
            raise
        raise TableError(
            f"{error}; of JSON only lines are read: write others, such as COCO's or Label Studio's, as a CSV "
            "with the columns path and label"
        ) from None


def is_parquet(path: Path) -> bool:
    """Whether the name says Parquet; the content is judged when it is read."""
    return path.suffix.lower() in {".parquet", ".pq"}


def pick_columns(
    table: Table,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    label_flag: str = "--label-col",
) -> LabelFile:
    """The label column of a table, and its path column unless it has only one column.

    Parameters
    ----------
    path_column, label_column : names to use instead of the known ones
    label_flag : what names the label column, for a message

    Raises
    ------
    TableError : no column or more than one can be meant, or a label is not UTF-8
    """
    columns = table.columns
    # A lone column of paths is what is left of a table whose labels cannot be read.
    is_path = columns is not None and bool(path_columns(columns, path_column))
    if columns is None or (len(columns) == 1 and not is_path):
        return LabelFile(table.path, _decoded(table, 0), None, table.line_numbers, table.unit)
    places = path_columns(columns, path_column)
    place = _only(table, places, "path", path_column, PATH_COLUMNS, "--path-col")
    entries = tuple(row[place] for row in table.rows)
    labels = pick_labels(table, label_column, label_flag)
    return LabelFile(table.path, labels, entries, table.line_numbers, table.unit)


def pick_labels(table: Table, label_column: str | None = None, flag: str = "--label-col") -> tuple[str, ...]:
    """The label column of a table alone; raises as ``pick_columns`` does."""
    columns = table.columns or ()
    place = _only(table, _label_places(columns, label_column), "label", label_column, LABEL_COLUMNS, flag)
    return _decoded(table, place)


def unread_columns(table: Table, path_column: str | None, label_column: str | None) -> str:
    """Which column the labels were read from, where others might hold them too; else empty."""
    columns = table.columns or ()
    labels, paths = _label_places(columns, label_column), path_columns(columns, path_column)
    others = (name for place, name in enumerate(columns) if place not in (*labels, *paths))
    unread = [name for name in others if name.strip()]
    if not (labels and unread):
        return ""
    return (
        f"{table.path.name}: the labels are those of column {shown(columns[labels[0]])}; "
        f"not read: {some(unread, SHOWN)}"
    )


def _label_places(columns: tuple[str, ...], label_column: str | None) -> list[int]:
    if label_column is None:
        return known_columns(columns, LABEL_COLUMNS)
    return [place for place, name in enumerate(columns) if name == label_column]


def _only(
    table: Table, places: Sequence[int], what: str, wanted: str | None, known: tuple[str, ...], flag: str
) -> int:
    if len(places) == 1:
        return places[0]
    columns = table.columns or ()
    expected = f"one {what} column ({', '.join(known) if wanted is None else shown(wanted)})"
    found = ", ".join(shown(name) for name in columns)
    count = "none" if not places else str(len(places))
    raise TableError(f"{table.path.name}: expected {expected}, got {count} in {found}; name it with {flag}")


def _decoded(table: Table, place: int) -> tuple[str, ...]:
    """The cells of a column; TableError names the first that is not UTF-8."""
    cells = tuple(row[place] for row in table.rows)
    label_issues = {cell for cell in set(cells) if not cell.isascii()}
    for row, cell in enumerate(cells):
        if cell in label_issues:
            check_decoded(cell, table.where(row))
    return cells
