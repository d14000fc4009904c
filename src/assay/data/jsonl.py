"""JSON lines as a table, within strict limits: a hostile or broken line is refused as ``bad_json``."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from assay.data.tables import Table, read_lines, shown
from assay.errors import TableError

DEPTH_LIMIT = 32
"""Brackets within brackets; Python's own parser would run out of stack near 1,000."""

DIGITS_LIMIT = 32
"""Characters in a number."""

_STRING = re.compile(r'"(?:[^"\\]|\\[\s\S]?)*(?:"|\Z)')
"""To the quote that closes it or to the end: a search that could fail would begin again at each quote."""


_STRANGE = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""A NUL, and halves of characters; those between stand for bytes that are not UTF-8, which others refuse."""


def read_jsonl(path: Path) -> Table:
    """One object a line; its keys are the columns, and a missing key is an empty cell.

    Strings and numbers become cells as they are written (``1.0`` stays ``1.0``), ``null`` an empty
    one. A key with a list or an object anywhere is left out: it can be neither a name nor a label.

    Raises
    ------
    TableError : ``bad_json``: not an object, a key twice, deeper than DEPTH_LIMIT, a number longer than
        DIGITS_LIMIT; and whatever ``read_lines`` refuses
    """
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            records.append(_record(line, f"{path.name} line {number}"))
            numbers.append(number)
    nested = {key for record in records for key, value in record.items() if isinstance(value, list | dict)}
    columns = tuple(dict.fromkeys(key for record in records for key in record if key not in nested))
    rows = tuple(tuple(_cell(record.get(column)) for column in columns) for record in records)
    return Table(path, columns, rows, tuple(numbers))


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        _check_depth(line)
        record = json.loads(
            line, object_pairs_hook=distinct, parse_int=_number, parse_float=_number, parse_constant=_refuse
        )
    except ValueError as error:
        raise TableError(f"{where}: bad_json: {error}; expected one object a line") from None
    if not isinstance(record, dict):
        raise TableError(
            f"{where}: bad_json: expected an object with file_name and a label, got {shown(line.strip())}"
        )
    return record


def _check_depth(line: str) -> None:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", line)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH_LIMIT:
            raise ValueError(f"nested deeper than {DEPTH_LIMIT}")


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as a hook of ``json.loads``; ValueError for a key that comes twice, and for bad text."""
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"the key {shown(key)} comes twice")
        for text in (key, value):
            if isinstance(text, str):
                _check_text(text)
        record[key] = value
    return record


def _number(text: str) -> str:
    if len(text) > DIGITS_LIMIT:
        raise ValueError(f"a number of {len(text):,} characters")
    return text


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _check_text(text: str) -> None:
    found = _STRANGE.search(text)
    if found:
        raise ValueError("a NUL character" if "\0" in text else f"half of a character in {shown(text)}")
