"""ReviewRun: what a finished run says of each image, and where the images are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from assay.data.dataset import ImageSource, PickedSource
from assay.data.decision_store import FILE
from assay.data.decisions import read_decisions
from assay.data.tables import read_table
from assay.errors import DataError, UsageError
from assay.pipeline.finished import FinishedRun, open_images, read_finished_run
from assay.types import UNKNOWN, Mask, Transition


@dataclass(frozen=True)
class ReviewRun(FinishedRun):
    """A finished run with its images."""

    images: ImageSource
    """Reads the bytes of row i."""
    root: Path
    """The place of the images, which the names are relative to."""
    transition: Transition | None
    """P(given | true), where the run could estimate it."""
    held_out_labels: Mapping[int, int]
    """Row -> trusted label of the held-out images, for exports alone: nothing here may learn from them.
    Empty if the run kept none."""

    @property
    def digest(self) -> str:
        """Of the run's backbone; empty if run.json does not say."""
        return str(self.record.get("backbone", {}).get("digest", ""))

    @cached_property
    def key(self) -> str:
        """Tells this run from any other, in the addresses of images."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def is_open(self) -> Mask:
        """Images that a person may decide: no trusted label is known, and the image can be seen."""
        may: Mask = (self.trusted == UNKNOWN) & (self.proposed != UNKNOWN) & ~self.held_out
        return may

    @cached_property
    def is_unlabelled(self) -> Mask:
        """Images without a label in the file of trusted ones that can be seen. Also what a person decided:
        decisions are no fair sample, and neither are the images that they leave.
        """
        decided = np.zeros(len(self), dtype=bool)
        decided[[*self.decided]] = True
        may: Mask = self.is_open | (decided & (self.proposed != UNKNOWN))
        return may

    @cached_property
    def is_looked_at(self) -> Mask:
        """Images of which a review of this run has a row: decided, or skipped."""
        file = self.folder / FILE
        names = {row.name for row in read_decisions(file)} if file.is_file() else set()
        return np.array([name in names for name in self.names], dtype=bool)

    @cached_property
    def names_in_order(self) -> tuple[str, ...]:
        """Names of the images in the order of their place, natural order as a rule: that of labels without
        names. labels.csv has the order of the noisy table, and rows that name no image.
        """
        if not isinstance(self.images, PickedSource):
            return self.names
        placed = zip(self.images.images, self.names, strict=True)
        return tuple(name for _, name in sorted((place, name) for place, name in placed if place is not None))

    def label(self, index: int) -> str | None:
        """The label of a class index; None of UNKNOWN."""
        return None if index == UNKNOWN else self.labels[index]

    def title(self, index: int) -> str:
        """The name for people of a class index."""
        return "no label" if index == UNKNOWN else self.titles[index]


def read_review_run(
    folder: Path, images: Path | None = None, *, follow_symlinks: bool = False, command: str = "review"
) -> ReviewRun:
    """A finished run, with its images.

    Parameters
    ----------
    images : where the images are; by default where they were when the run was made
    command : that a message names

    Raises
    ------
    DataError : no finished run, files of it that do not fit each other, or images that are not there
    UsageError : the run does not say where the images are, or they are there no more
    """
    run = read_finished_run(folder)
    root = images or _place(run, command)
    return ReviewRun(
        **vars(run),
        images=open_images(run, root, follow_symlinks=follow_symlinks),
        root=root,
        transition=_transition(folder, len(run.labels)),
        held_out_labels=_held_out_labels(run),
    )


def _held_out_labels(run: FinishedRun) -> dict[int, int]:
    file = run.folder / "holdout.csv"
    rows = {name: row for row, name in enumerate(run.names)}
    index = {label: i for i, label in enumerate(run.labels)}
    table = read_table(file, path_column="file", label_column="trusted_label")
    try:
        return {rows[name]: index[trusted] for name, trusted, *_ in table.rows}
    except (KeyError, ValueError) as error:
        raise DataError(f"{file}: {error} is not of this run; run it again") from None


def _transition(folder: Path, n_classes: int) -> Transition | None:
    """Only for words beside an image: a run without it can be reviewed all the same."""
    try:
        found = np.array(json.loads((folder / "noise.json").read_text(encoding="utf-8"))["transition"], float)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.shape == (n_classes, n_classes) else None


def _place(run: FinishedRun, command: str) -> Path:
    folder, stored = run.folder, run.stored_place
    if stored is None:
        raise UsageError(
            f"{folder} does not say where its images are; name them: assay {command} {folder} IMAGES"
        )
    if not stored.exists():
        raise UsageError(
            f"the images of {folder} were at {stored} and are there no more; name their place now: "
            f"assay {command} {folder} IMAGES"
        )
    return stored
