"""ReviewRun: what a finished run says of each image, and where the images are."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from assay._errors import DataError, UsageError
from assay._types import UNKNOWN, Labels, Mask, Transition, Weights
from assay.data.arrange import PickedSource
from assay.data.dataset import ImageSource, Listing, ReadOptions
from assay.data.label_files import LabelFile
from assay.data.pairing import pair_by_name
from assay.data.read import list_images
from assay.data.tables import Table, read_table, shown
from assay.recipes.folder import RunFolder
from assay.recipes.outputs import LABEL_COLUMNS

_HOLDOUT = "holdout"


@dataclass(frozen=True)
class ReviewRun:
    """N images in the order of labels.csv."""

    folder: Path
    names: tuple[str, ...]
    labels: tuple[str, ...]
    """The K labels as they came in."""
    titles: tuple[str, ...]
    """K names for people."""
    given: Labels
    trusted: Labels
    """UNKNOWN for the holdout, whose labels this page never sees."""
    proposed: Labels
    """The most probable class; UNKNOWN where skipped."""
    confidence: Weights
    """P(proposed is right)."""
    p_given: Weights
    """P(the given label is right)."""
    actions: tuple[str, ...]
    reasons: tuple[str, ...]
    images: ImageSource
    """Reads the bytes of row i."""
    transition: Transition | None
    """P(given | true), where the run could estimate it."""
    backbone: Mapping[str, Any]
    """As run.json has it."""
    key: str
    """Tells this run from any other, in the addresses of images."""

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def is_open(self) -> Mask:
        """Images that a person may decide: no trusted label is known, and the image can be seen."""
        held_out = np.array([reason == _HOLDOUT for reason in self.reasons], dtype=bool)
        may: Mask = (self.trusted == UNKNOWN) & (self.proposed != UNKNOWN) & ~held_out
        return may

    def label(self, index: int) -> str | None:
        """The label of a class index; None of UNKNOWN."""
        return None if index == UNKNOWN else self.labels[index]

    def title(self, index: int) -> str:
        """The name for people of a class index."""
        return "no label" if index == UNKNOWN else self.titles[index]


def read_review_run(folder: Path, images: Path | None = None, *, follow_symlinks: bool = False) -> ReviewRun:
    """A finished run, with its images.

    Parameters
    ----------
    images : where the images are; by default where they were when the run was made

    Raises
    ------
    DataError : no finished run, files of it that do not fit each other, or images that are not there
    UsageError : the run does not say where the images are, or they are there no more
    """
    record = RunFolder(folder).record()
    if record.get("status") != "done":
        raise DataError(f"{folder}: expected the folder of a finished run; run 'assay run' to its end first")
    table = _read_table(folder)
    columns = dict(zip(LABEL_COLUMNS, zip(*table.rows, strict=True), strict=True))
    labels, titles = _read_classes(folder)
    place = _place(folder, record, images)
    source = _in_order(
        table, columns["name"], list_images(place, ReadOptions(follow_symlinks=follow_symlinks)), place
    )
    index = {label: i for i, label in enumerate(labels)} | {"": UNKNOWN}
    return ReviewRun(
        folder=folder,
        names=columns["name"],
        labels=labels,
        titles=titles,
        given=_indices(table, columns["given"], index),
        trusted=_indices(table, columns["trusted"], index),
        proposed=_indices(table, columns["fixed"], index),
        confidence=_numbers(table, columns["confidence"]),
        p_given=_numbers(table, columns["p_given"]),
        actions=columns["action"],
        reasons=columns["reason"],
        images=source,
        transition=_transition(folder, len(labels)),
        backbone=record.get("backbone", {}),
        key=hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16],
    )


def _read_table(folder: Path) -> Table:
    table = read_table(folder / "labels.csv", path_column="name", label_column="fixed")
    if table.columns != LABEL_COLUMNS or not table.rows:
        raise DataError(f"{table.path}: expected the columns {', '.join(LABEL_COLUMNS)} and a row an image")
    return table


def _read_classes(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    file = folder / "model" / "labels.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        labels, titles = tuple(map(str, found["labels"])), tuple(map(str, found["titles"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: expected the labels of the run's model ({error!r}); run it again") from None
    return labels, titles or labels


def _transition(folder: Path, n_classes: int) -> Transition | None:
    """Only for words beside an image: a run without it can be reviewed all the same."""
    try:
        found = np.array(json.loads((folder / "noise.json").read_text(encoding="utf-8"))["transition"], float)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.shape == (n_classes, n_classes) else None


def _place(folder: Path, record: Mapping[str, Any], images: Path | None) -> Path:
    if images is not None:
        return images
    stored = record.get("images")
    if not isinstance(stored, str):
        raise UsageError(
            f"{folder} does not say where its images are; name them: assay review {folder} IMAGES"
        )
    if not Path(stored).exists():
        raise UsageError(
            f"the images of {folder} were at {stored} and are there no more; name their place now: "
            f"assay review {folder} IMAGES"
        )
    return Path(stored)


def _in_order(table: Table, names: tuple[str, ...], listing: Listing, place: Path) -> ImageSource:
    """The images in the order of labels.csv, whose names are as the run's own label file wrote them."""
    if names == listing.names:
        return listing.source
    # Such a name may begin at a folder above the images; which one, the run does not say.
    found: list[tuple[int | None, ...]] = []
    for above in [place.resolve(), *place.resolve().parents[:3]]:
        file = LabelFile(above / "labels.csv", names, names, table.line_numbers)
        try:
            found.append(pair_by_name(file, listing, place).images)
        except DataError:
            continue
        if None not in found[-1]:
            break
    if not found:
        raise DataError(
            f"{place}: none of the {len(names):,} images of the run is there, the first is "
            f"{shown(names[0])}; name the images that the run was made from"
        )
    return PickedSource(listing.source, min(found, key=lambda images: images.count(None)))


def _indices(table: Table, cells: Sequence[str], index: Mapping[str, int]) -> Labels:
    try:
        return np.array([index[cell] for cell in cells], dtype=np.int64)
    except KeyError as error:
        raise DataError(f"{table.path}: {error} is no class of the run's model; run it again") from None


def _numbers(table: Table, cells: Sequence[str]) -> Weights:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise DataError(f"{table.path}: expected probabilities ({error}); run it again") from None
