"""Decisions of a review as labels of a data set: they teach, and are a sample of nothing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from assay.data.dataset import Dataset
from assay.data.decision_files import read_decisions
from assay.data.tables import shown
from assay.errors import DataError, LabelError
from assay.types import UNKNOWN


def with_decisions(dataset: Dataset, path: Path) -> Dataset:
    """The data set with what a person decided of its images; what was skipped or undone says nothing.

    An image that has a trusted label keeps it, and its decision is left out: the images of the holdout
    are among them, and which ones those are must not depend on what was reviewed.

    Parameters
    ----------
    path : decisions.sqlite, or decisions as CSV or Label Studio's JSON; its names are those of the rows

    Raises
    ------
    TableError, DataError : see ``read_decisions``
    DataError : not one decision is of an image of this data set
    LabelError : a label that is no class
    """
    found = read_decisions(path)
    row_of = {name: row for row, name in enumerate(dataset.names)}
    here = {row_of[name]: label for name, label in found.items() if name in row_of}
    if found and not here:
        raise DataError(
            f"{path.name}: none of its {len(found):,} decisions is of an image of this data set, the first "
            f"is of {shown(next(iter(found)))}; give the decisions of a review of these images"
        )
    indices = _indices(dataset, here, path)
    decided = {row: index for row, index in indices.items() if dataset.trusted[row] == UNKNOWN}
    counted = {
        "decisions, learned from as trusted labels; no figure counts them": len(decided),
        "decisions of images with a trusted label, which stays": len(indices) - len(decided),
        "decisions of images that are not here": len(found) - len(here),
    }
    notes = [f"{path.name}: {words}: {count:,}" for words, count in counted.items() if count]
    return replace(dataset, decided=decided, notes=(*dataset.notes, *notes))


def _indices(dataset: Dataset, labels: Mapping[int, str], path: Path) -> dict[int, int]:
    index = {label: i for i, label in enumerate(dataset.classes)}
    for row, label in labels.items():
        if label not in index:
            raise LabelError(
                f"{path.name}: {shown(dataset.names[row])} was decided to be {shown(label)}, which is no "
                f"class of this data set ({', '.join(map(shown, dataset.classes[:10]))}); correct the label "
                "or leave the row out"
            )
    return {row: index[label] for row, label in sorted(labels.items())}
