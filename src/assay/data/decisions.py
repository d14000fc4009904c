"""Decisions of a review as files that other tools read, and as labels of a data set.

CSV has a row for each image, with the columns ``file`` and ``label`` of any label file; a skipped image has
an empty label. Label Studio's JSON has a task for each image. Both read back without change.
"""

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.data.dataset import Dataset
from assay.data.decision_store import LABEL, SKIP, Decision, State, read_states
from assay.data.match import ImageFinder
from assay.data.tables import read_csv, shown, unique_keys
from assay.data.write import escape_surrogates, write_rows, write_text_atomic
from assay.errors import DataError, LabelError, TableError
from assay.types import UNKNOWN

CSV_COLUMNS = ("file", "label", "status", "noisy_label", "who", "at")

IMPORTED = "import"
"""The client of rows that came from a file."""

_JSON_LIMIT = 256 * 1024 * 1024
_SQLITE = b"SQLite format 3\0"


def with_decisions(dataset: Dataset, path: Path, images: Path) -> Dataset:
    """The data set with the labels that a person decided; skipped and undone decisions give none.

    They are trained on and never counted, for the images were chosen, not drawn. An image that has a trusted
    label keeps it: which images are in the holdout must not depend on what was reviewed.

    Parameters
    ----------
    path : decisions.sqlite, CSV or Label Studio's JSON
    images : the place of the images, from which its names may begin, as those of a label file

    Raises
    ------
    TableError, DataError : see ``read_decisions``
    DataError : not one decision is of an image of this data set
    LabelError : a label that is no class
    """
    labels = {row.name: row.after for row in read_decisions(path) if row.after is not None}
    row_of = {name: row for row, name in enumerate(dataset.names)}
    finder = ImageFinder(dataset.names, images, path)
    rows = {name: row_of.get(name, finder.find(name)[0]) for name in labels}
    here = {row: label for name, label in labels.items() if (row := rows[name]) is not None}
    if labels and not here:
        raise DataError(
            f"{path.name}: none of its {len(labels):,} decisions is of an image of this data set, the first "
            f"is of {shown(next(iter(labels)))}; give the decisions of a review of these images"
        )
    index = {label: i for i, label in enumerate(dataset.classes)}
    for row, label in here.items():
        if label not in index:
            raise LabelError(
                f"{path.name}: {shown(dataset.names[row])} was decided to be {shown(label)}, which is no "
                f"class of this data set ({', '.join(map(shown, dataset.classes[:10]))}); correct the label "
                "or leave the row out"
            )
    decided = {row: index[here[row]] for row in sorted(here) if dataset.trusted[row] == UNKNOWN}
    counts = {
        "decisions used as trusted labels for training, in no figure": len(decided),
        "decisions of images with a trusted label, which stays": len(here) - len(decided),
        "decisions of images that are not here": len(labels) - len(here),
    }
    notes = [f"{path.name}: {words}: {count:,}" for words, count in counts.items() if count]
    return replace(dataset, decided=decided, notes=(*dataset.notes, *notes))


def read_decisions(path: Path) -> list[Decision]:
    """What holds for each image, by the file's content: a database, CSV or Label Studio's JSON.

    Skipped images have no label; decisions that were taken back are left out.

    Raises
    ------
    TableError : a file of another kind, or damaged
    DataError : a database that is not one of decisions
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from None
    if head == _SQLITE:
        return standing(read_states(path))
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    seen: dict[str, Decision] = {}
    for row in _from_json(path) if start in (b"[", b"{") else _from_csv(path):
        other = seen.setdefault(row.name, row)
        if other.after != row.after:
            raise TableError(
                f"{path.name}: {shown(row.name)} is both {shown(other.after or '')} and "
                f"{shown(row.after or '')}; keep one of the two rows"
            )
    return list(seen.values())


def standing(states: Mapping[str, State]) -> list[Decision]:
    """The row that holds for each image that has one, in the order of their first rows.

    As in the files, it goes from the label that came with the image, whatever was decided in between.
    """
    return [
        replace(state.last, before=state.history[0].before)
        for state in states.values()
        if state.last is not None
    ]


def write_csv(target: Path, states: Mapping[str, State]) -> None:
    """One row for each image that was decided or skipped."""
    rows = [
        (row.name, row.after, "skipped" if row.kind == SKIP else "decided", row.before, row.who, row.at)
        for row in standing(states)
    ]
    write_rows(target, CSV_COLUMNS, list(zip(*rows, strict=True)) if rows else [()] * len(CSV_COLUMNS))


def write_label_studio(target: Path, states: Mapping[str, State]) -> None:
    """Tasks with one annotation each, as Label Studio imports them (a control ``label`` on ``image``)."""
    tasks = []
    for row in standing(states):
        choice = {"type": "choices", "from_name": "label", "to_name": "image"}
        annotation = {
            "was_cancelled": row.kind == SKIP,
            "created_at": row.at,
            "result": [] if row.kind == SKIP else [{**choice, "value": {"choices": [row.after]}}],
        }
        data = {"image": row.name, "noisy_label": row.before}
        tasks.append({"data": data, "meta": {"who": row.who}, "annotations": [annotation]})
    write_text_atomic(target, escape_surrogates(json.dumps(tasks, ensure_ascii=False, indent=1)) + "\n")


def _from_csv(path: Path) -> Iterator[Decision]:
    table = read_csv(path)
    columns = table.columns or ()
    if "file" not in columns or "label" not in columns:
        raise TableError(
            f"{path.name}: expected decisions with the columns file and label, got "
            f"{', '.join(map(shown, columns)) or 'no header'}"
        )
    for place, cells in enumerate(table.rows):
        cell = dict(zip(columns, cells, strict=True))
        if not cell["file"]:
            raise TableError(f"{table.where(place)}: expected the name of an image, got an empty cell")
        noisy, who, at = (cell.get(name, "") for name in ("noisy_label", "who", "at"))
        yield _imported(cell["file"], cell["label"], noisy, who, at)


def _from_json(path: Path) -> Iterator[Decision]:
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise TableError(f"{path.name}: expected at most {_JSON_LIMIT:,} bytes; split the file")
        tasks = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise TableError(f"bad_json: {path.name} is not JSON that can be read: {error}") from None
    if not isinstance(tasks, list):
        raise TableError(f"bad_json: {path.name}: expected a list of Label Studio's tasks, got one object")
    for number, task in enumerate(tasks, start=1):
        try:
            if task["annotations"]:  # else nobody has decided it yet
                yield _from_task(task)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise TableError(
                f"bad_json: {path.name} task {number}: expected data.image and one choice for it: {error!r}"
            ) from None


def _from_task(task: Any) -> Decision:
    last = task["annotations"][-1]
    label = ""
    if not last.get("was_cancelled", False):
        (result,) = last["result"]
        (label,) = result["value"]["choices"]
    name, noisy = task["data"]["image"], task["data"].get("noisy_label") or ""
    at, who = last.get("created_at", ""), task.get("meta", {}).get("who", last.get("completed_by", ""))
    if not name or not all(isinstance(text, str) for text in (name, label, noisy, at)):
        raise ValueError("text was expected")
    return _imported(name, label, noisy, str(who), at)


def _imported(name: str, label: str, noisy: str, who: str, at: str) -> Decision:
    kind = LABEL if label else SKIP
    return Decision(name, 1, kind, noisy or None, label or None, who, at, IMPORTED)
