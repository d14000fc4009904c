"""Decisions in files that other tools read: out, and back in without change.

CSV has a row for each image (``file_name``, ``label``…), so that it is a file of trusted labels as it
stands; a skipped image has an empty label. Label Studio's JSON has a task for each image.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.data.decision_store import read_rows
from assay.data.decisions import LABEL, SKIP, Decision, State
from assay.data.jsonl import distinct
from assay.data.tables import read_table, shown
from assay.data.write import escape_surrogates, write_rows, write_text_atomic
from assay.errors import TableError

CSV_COLUMNS = ("file_name", "label", "status", "noisy", "who", "at")

IMPORTED = "import"
"""The client of rows that came from a file."""

_JSON_LIMIT = 256 * 1024 * 1024
_SQLITE = b"SQLite format 3\0"


def read_decisions(path: Path) -> dict[str, str]:
    """Image name -> the label that a person gave, from decisions.sqlite, CSV or Label Studio's JSON.

    Skipped images and those taken back are left out. The names are those of labels.csv.

    Raises
    ------
    TableError : a file of another kind, or damaged
    DataError : a database that is not one of decisions
    """
    return {row.name: row.after for row in read_any_decisions(path) if row.after is not None}


def read_any_decisions(path: Path) -> list[Decision]:
    """What holds for each image, by the file's content: a database, CSV or Label Studio's JSON.

    Raises
    ------
    TableError, DataError : see ``read_decisions``
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from None
    if head == _SQLITE:
        return standing(read_rows(path))
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return _from_json(path) if start in (b"[", b"{") else _from_csv(path)


def standing(states: Mapping[str, State]) -> list[Decision]:
    """The row that holds for each image that has one, the image that was looked at first first.

    It goes from the label that came with the image, as in the other files, whatever was decided in between.
    """
    return [replace(state.last, before=_noisy(state)) for state in states.values() if state.last is not None]


def write_csv(target: Path, states: Mapping[str, State]) -> None:
    """One row for each image that was decided or skipped.

    Raises
    ------
    ResourceError, UsageError : as ``write_bytes_atomic``
    """
    rows = [_cells(state, state.last) for state in states.values() if state.last is not None]
    write_rows(target, CSV_COLUMNS, list(zip(*rows, strict=True)) if rows else [()] * len(CSV_COLUMNS))


def write_label_studio(target: Path, states: Mapping[str, State]) -> None:
    """Tasks with one annotation each, as Label Studio imports them (a control ``label`` on ``image``)."""
    tasks = [_task(state, state.last) for state in states.values() if state.last is not None]
    write_text_atomic(target, escape_surrogates(json.dumps(tasks, ensure_ascii=False, indent=1)) + "\n")


def _cells(state: State, row: Decision) -> tuple[str | None, ...]:
    return row.name, row.after, "skipped" if row.kind == SKIP else "decided", _noisy(state), row.who, row.at


def _noisy(state: State) -> str | None:
    """The label that came with the image."""
    return state.history[0].before


def _task(state: State, row: Decision) -> dict[str, Any]:
    choice = {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [row.after]}}
    annotation = {
        "was_cancelled": row.kind == SKIP,
        "created_at": row.at,
        "result": [] if row.kind == SKIP else [choice],
    }
    data = {"image": row.name, "noisy": _noisy(state)}
    return {"data": data, "meta": {"who": row.who}, "annotations": [annotation]}


def _from_csv(path: Path) -> list[Decision]:
    table = read_table(path)
    columns = table.columns or ()
    if "file_name" not in columns or "label" not in columns:
        raise TableError(
            f"{path.name}: expected decisions with the columns file_name and label, got "
            f"{', '.join(map(shown, columns)) or 'no header'}"
        )
    found = []
    for place, cells in enumerate(table.rows):
        cell = dict(zip(columns, cells, strict=True))
        name, label = cell["file_name"], cell["label"] or None
        if not name:
            raise TableError(f"{table.where(place)}: expected the name of an image, got an empty cell")
        at = (cell.get("noisy") or None, cell.get("who", ""), cell.get("at", ""))
        found.append(_row(name, label, *at))
    return _once_each(found, path)


def _from_json(path: Path) -> list[Decision]:
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise TableError(f"{path.name}: expected at most {_JSON_LIMIT:,} bytes; split the file")
        tasks = json.loads(path.read_bytes(), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise TableError(f"bad_json: {path.name} is not JSON that can be read: {error}") from None
    if not isinstance(tasks, list):
        raise TableError(f"bad_json: {path.name}: expected a list of Label Studio's tasks, got one object")
    found: list[Decision] = []
    for number, task in enumerate(tasks, start=1):
        try:
            found += _from_task(task)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise TableError(
                f"bad_json: {path.name} task {number}: expected data.image and one choice for it: {error!r}"
            ) from None
    return _once_each(found, path)


def _from_task(task: Any) -> Iterator[Decision]:
    annotations = task["annotations"]
    if not annotations:
        return  # nobody has looked at it yet
    name, noisy, last = task["data"]["image"], task["data"].get("noisy"), annotations[-1]
    who = task.get("meta", {}).get("who", last.get("completed_by", ""))
    label = None
    if not last.get("was_cancelled", False):
        (result,) = last["result"]
        (label,) = result["value"]["choices"]
    texts = (name, label or "", noisy or "", last.get("created_at", ""))
    if not name or not all(isinstance(text, str) for text in texts):
        raise ValueError("text was expected")
    yield _row(name, label, noisy, str(who), last.get("created_at", ""))


def _row(name: str, label: str | None, noisy: str | None, who: str, at: str) -> Decision:
    return Decision(name, 1, SKIP if label is None else LABEL, noisy, label, who, at, IMPORTED)


def _once_each(rows: Iterable[Decision], path: Path) -> list[Decision]:
    seen: dict[str, Decision] = {}
    for row in rows:
        other = seen.setdefault(row.name, row)
        if other.after != row.after:
            raise TableError(
                f"{path.name}: {shown(row.name)} is both {shown(other.after or '')} and "
                f"{shown(row.after or '')}; keep one of the two rows"
            )
    return list(seen.values())
