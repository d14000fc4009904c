"""Labels of several annotators: a long table with a row for each label that somebody gave."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from assay.data.dataset import Annotations
from assay.data.files import natural_key
from assay.data.matching import Key, LabelRows, one_label_each
from assay.data.tables import ANNOTATOR_COLUMNS, known_columns, shown
from assay.errors import LabelError, TableError
from assay.types import UNKNOWN, Labels


def with_annotators(rows: LabelRows) -> LabelRows:
    """The same rows with the annotator of each; "" for all where the table has no such column.

    Raises
    ------
    TableError : rows without paths, two columns of annotators, a label of nobody
    """
    table = rows.table
    if rows.entries is None:
        raise TableError(
            f"{rows.name}: expected columns such as file, annotator, label and a row for each label that "
            "somebody gave, got labels without paths; name the column with --path-col"
        )
    places = known_columns(table.columns or (), ANNOTATOR_COLUMNS)
    if len(places) > 1:
        found = " and ".join(shown((table.columns or ())[place]) for place in places)
        raise TableError(f"{rows.name}: expected one column of annotators, got {found}; rename one of them")
    names = table.column(places[0]) if places else ("",) * len(table.rows)
    if places and "" in names:
        raise TableError(
            f"{table.where(names.index(''))}: expected the annotator who gave the label, got an empty cell; "
            "write a name, or leave the whole column out"
        )
    return replace(rows, annotators=names)


def all_labels(
    rows: LabelRows, index: Mapping[str, int], row_of: Mapping[Key, int]
) -> tuple[Labels, Annotations, tuple[str, ...]]:
    """(most frequent label of each image, all labels, notes); parameters as of ``one_label_each``.

    Raises
    ------
    LabelError : one annotator gave one image two different labels
    """
    most_frequent, notes = one_label_each(rows, index, row_of, vote=True)
    annotators, entries = rows.annotators or (), rows.entries or ()
    ordered = sorted(set(annotators), key=natural_key)
    number = {name: place for place, name in enumerate(ordered)}
    first: dict[tuple[int, str], int] = {}
    kept: list[tuple[int, int, int]] = []
    for row, (key, name, text) in enumerate(zip(rows.keys, annotators, rows.labels, strict=True)):
        image, label = row_of[key], index[text]
        if label == UNKNOWN:
            continue
        # Where nobody is named, two labels of an image may be of two people.
        earlier = first.setdefault((image, name), row) if name else row
        if index[rows.labels[earlier]] != label:
            raise LabelError(
                f"{rows.table.where(row)}: {shown(name)} labels {shown(entries[row])} as {shown(text)} here "
                f"and as {shown(rows.labels[earlier])} in {rows.table.unit} "
                f"{rows.table.line_numbers[earlier]}; keep one of the two rows"
            )
        if earlier == row:
            kept.append((image, number[name], label))
    found = np.array(kept, dtype=np.int64).reshape(-1, 3)
    people = f"{len(ordered):,} annotators" if ordered != [""] else "annotators who are not named"
    n_images = len(np.unique(found[:, 0]))
    note = f"{rows.name}: {len(found):,} labels of {n_images:,} images by {people}"
    return most_frequent, Annotations(found[:, 0], found[:, 1], found[:, 2], tuple(ordered)), (*notes, note)
