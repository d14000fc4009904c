"""FinishedRun: what the files of a finished run say of each image, and how to find its images again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from assay.data.arrange import PickedSource
from assay.data.dataset import Dataset, ImageSource, ReadOptions
from assay.data.label_files import LabelFile
from assay.data.limits import USUAL
from assay.data.pairing import pair_by_name
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
    """UNKNOWN for the holdout, whose labels labels.csv does not have; also what a person decided."""
    proposed: Labels
    """The most probable class; UNKNOWN where skipped."""
    confidence: PerImage
    """P(proposed is right)."""
    label_quality: PerImage
    """P(the given label is right)."""
    actions: tuple[str, ...]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def held_out(self) -> Mask:
        """Images whose trusted label is sealed."""
        return np.array([reason == HOLDOUT for reason in self.reasons], dtype=bool)

    @property
    def decided(self) -> dict[int, int]:
        """Row -> class index of the images that a person decided: see ``Dataset.decided``."""
        return {row: int(self.trusted[row]) for row, reason in enumerate(self.reasons) if reason == DECIDED}

    @property
    def stored_place(self) -> Path | None:
        """Where the images were when the run was made; None if it does not say."""
        stored = self.record.get("images")
        return Path(stored) if isinstance(stored, str) else None

    @property
    def names_below(self) -> tuple[str, ...] | None:
        """The names as they are below the place that the images had when the run was made; None if they do
        not lead there.
        """
        if self.stored_place is None:
            return None
        place = self.stored_place.parts
        parts = [[part for part in PurePath(name).parts if part not in (".", "..")] for name in self.names]
        for length in range(len(place), 0, -1):
            above = [*place[-length:]]
            if all(one[:length] == above and len(one) > length for one in parts):
                return tuple("/".join(one[length:]) for one in parts)
        return None

    def dataset(self, images: ImageSource) -> Dataset:
        """Its images, in the order of labels.csv, with its labels; decided ones count as trusted."""
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
        """How the run read its images and labels; as any are read where it does not say."""
        stored = self.record.get("reading", {})
        return ReadOptions(
            path_column=stored.get("path_column"),
            label_column=stored.get("label_column"),
            follow_symlinks=stored.get("follow_symlinks", False),
            truncated=stored.get("truncated", "skip"),
            max_pixels=stored.get("max_pixels", USUAL.max_pixels),
        )


def read_finished_run(folder: Path) -> FinishedRun:
    """What run.json, labels.csv and the model's labels.json say.

    Raises
    ------
    DataError : no finished run, or files of it that do not fit each other
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
    """The images at ``place``, read as the run read them, in the order of labels.csv.

    Parameters
    ----------
    follow_symlinks : also where the run did not

    Raises
    ------
    DataError : nothing is there, or not one of the run's images
    """
    reading = run.reading
    listing = list_images(place, replace(reading, follow_symlinks=follow_symlinks or reading.follow_symlinks))
    if run.names == listing.names:
        return listing.source
    # A name in labels.csv is as the run's own label file wrote it: it may begin at a folder above the
    # images; which one, the run does not say, and the images may be elsewhere now.
    here, below = place.resolve(), run.names_below
    tried = [(above, run.names) for above in (here, *here.parents[:3])]
    if below is not None:
        tried.insert(0, (here, below))
    lines = tuple(range(len(run)))  # no message tells them: what does not fit is tried elsewhere
    found: list[tuple[int | None, ...]] = []
    for above, names in tried:
        file = LabelFile(above / "labels.csv", names, names, lines)
        try:
            found.append(pair_by_name(file, listing, place, quiet=True).images)
        except DataError:
            continue
        if None not in found[-1]:
            break
    if not found:
        raise DataError(
            f"{place}: none of the {len(run):,} images of the run is there, the first is "
            f"{shown(run.names[0])}; name the images that the run was made from"
        )
    return PickedSource(listing.source, min(found, key=lambda images: images.count(None)))


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
        raise DataError(f"{table.path}: {error} is no class of the run's model; run it again") from None


def _numbers(table: Table, cells: Sequence[str]) -> PerImage:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise DataError(f"{table.path}: expected probabilities ({error}); run it again") from None
