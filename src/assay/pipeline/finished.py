"""FinishedRun: the files of a finished run as arrays, and its images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import Dataset, ImageSource, PickedSource, ReadOptions
from assay.data.limits import USUAL
from assay.data.read import list_images
from assay.data.tables import Table, read_table, shown
from assay.errors import DataError
from assay.pipeline.folder import RunFolder
from assay.pipeline.outputs import DECIDED, HOLDOUT, LABEL_COLUMNS
from assay.types import UNKNOWN, Labels, Mask, PerImage


@dataclass(frozen=True)
class FinishedRun:
    """N images in the order of labels.csv."""

    folder: Path
    record: Mapping[str, Any]
    """run.json."""
    names: tuple[str, ...]
    labels: tuple[str, ...]
    """The K labels as they came in."""
    titles: tuple[str, ...]
    """K names for people."""
    noisy: Labels
    trusted: Labels
    """UNKNOWN for the holdout, whose labels labels.csv does not have; includes decisions of a review."""
    proposed: Labels
    """The most probable class; UNKNOWN where skipped."""
    confidence: PerImage
    """P(proposed is right)."""
    label_quality: PerImage
    """P(the noisy label is right)."""
    actions: tuple[str, ...]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def held_out(self) -> Mask:
        """True for images of the holdout."""
        return np.array([reason == HOLDOUT for reason in self.reasons], dtype=bool)

    @property
    def decided(self) -> dict[int, int]:
        """Row -> class index of the images that a person decided: see ``Dataset.decided``."""
        return {row: int(self.trusted[row]) for row, reason in enumerate(self.reasons) if reason == DECIDED}

    @property
    def stored_place(self) -> Path | None:
        """The root that the names are relative to; None if run.json has none."""
        stored = self.record.get("images")
        return Path(stored) if isinstance(stored, str) else None

    def dataset(self, images: ImageSource) -> Dataset:
        """Its images and labels, in the order of labels.csv; trusted labels include decisions."""
        return Dataset(
            self.names,
            images,
            self.labels,
            self.noisy,
            self.trusted,
            self.titles,
            accept_truncated=self.reading.accept_truncated,
            limits=self.reading.limits,
        )

    @property
    def reading(self) -> ReadOptions:
        """The options with which the run read its images and labels."""
        stored = self.record.get("reading", {})
        return ReadOptions(
            path_column=stored.get("path_column"),
            label_column=stored.get("label_column"),
            follow_symlinks=stored.get("follow_symlinks", False),
            truncated=stored.get("truncated", "skip"),
            max_pixels=stored.get("max_pixels", USUAL.max_pixels),
        )


def read_finished_run(folder: Path) -> FinishedRun:
    """Read run.json, labels.csv and the model's labels.json.

    Raises
    ------
    DataError : no finished run, or files of it that do not match
    OtherRunError : a run of another version of assay
    """
    record = RunFolder(folder).record()
    if record.get("status") != "done":
        raise DataError(f"{folder}: expected the folder of a finished run; run 'assay run' to its end first")
    table = _read_table(folder)
    columns = dict(zip(LABEL_COLUMNS, zip(*table.rows, strict=True), strict=True))
    labels, titles = _read_classes(folder)
    index = {label: i for i, label in enumerate(labels)} | {"": UNKNOWN}
    return FinishedRun(
        folder=folder,
        record=record,
        names=columns["file"],
        labels=labels,
        titles=titles,
        noisy=_indices(table, columns["noisy_label"], index),
        trusted=_indices(table, columns["trusted_label"], index),
        proposed=_indices(table, columns["corrected_label"], index),
        confidence=_numbers(table, columns["confidence"]),
        label_quality=_numbers(table, columns["label_quality"]),
        actions=columns["action"],
        reasons=columns["reason"],
    )


def open_images(run: FinishedRun, place: Path, *, follow_symlinks: bool = False) -> ImageSource:
    """The images below ``place`` in the order of labels.csv, read with the options of the run.

    Parameters
    ----------
    follow_symlinks : also if the run did not

    Raises
    ------
    DataError : no such place, or none of the run's images is in it
    """
    reading = run.reading
    listing = list_images(place, replace(reading, follow_symlinks=follow_symlinks or reading.follow_symlinks))
    if run.names == listing.names:
        return listing.source
    place_of = {name: i for i, name in enumerate(listing.names)}
    images = tuple(place_of.get(name) for name in run.names)
    if not any(image is not None for image in images):
        raise DataError(
            f"{place}: contains none of the {len(run):,} images of the run, such as {shown(run.names[0])}; "
            "name the images that the run was made from"
        )
    return PickedSource(listing.source, images)


def _read_table(folder: Path) -> Table:
    table = read_table(folder / "labels.csv", path_column="file", label_column="corrected_label")
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


def _indices(table: Table, cells: Sequence[str], index: Mapping[str, int]) -> Labels:
    try:
        return np.array([index[cell] for cell in cells], dtype=np.int64)
    except KeyError as error:
        raise DataError(f"{table.path}: {error} is not a class of the run's model; run it again") from None


def _numbers(table: Table, cells: Sequence[str]) -> PerImage:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise DataError(f"{table.path}: expected probabilities ({error}); run it again") from None
