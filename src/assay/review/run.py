"""ReviewRun: a finished run with its images, and which of them a person may decide."""

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
    """P(noisy | true) at [true, noisy]; None where the run could not estimate it."""
    held_out_labels: Mapping[int, int]
    """Row -> trusted label of the holdout, for exports alone: nothing may be trained on them."""

    @property
    def digest(self) -> str:
        """Of the run's backbone; empty if run.json does not have it."""
        return str(self.record.get("backbone", {}).get("digest", ""))

    @cached_property
    def key(self) -> str:
        """Names this run in the URLs of images, so that a browser never shows those of another run."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def is_open(self) -> Mask:
        """Images that a person may decide: usable ones without a trusted label."""
        may: Mask = (self.trusted == UNKNOWN) & (self.proposed != UNKNOWN) & ~self.held_out
        return may

    @cached_property
    def is_unlabelled(self) -> Mask:
        """Usable images that are not in the file of trusted labels, decided ones included: decided images
        were chosen, not drawn, so neither they nor the rest are a fair sample.
        """
        decided = np.zeros(len(self), dtype=bool)
        decided[[*self.decided]] = True
        may: Mask = self.is_open | (decided & (self.proposed != UNKNOWN))
        return may

    @cached_property
    def is_reviewed(self) -> Mask:
        """Images that a review of this run decided or skipped."""
        file = self.folder / FILE
        names = {row.name for row in read_decisions(file)} if file.is_file() else set()
        return np.array([name in names for name in self.names], dtype=bool)

    @cached_property
    def names_in_order(self) -> tuple[str, ...]:
        """Names in the order of the images' place, which labels without file names follow; labels.csv has
        the order of the noisy table.
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
    """Read a finished run and open its images.

    Parameters
    ----------
    images : where the images are; by default where they were when the run was made
    command : the command that messages advise to give again

    Raises
    ------
    DataError : no finished run, files of it that do not match, or other images
    UsageError : the run does not know where its images are, or they are no longer there
    """
    run = read_finished_run(folder)
    root = images or run.stored_place
    if root is None:
        raise UsageError(
            f"{folder} does not record where its images are; name the place: assay {command} {folder} IMAGES"
        )
    if images is None and not root.exists():
        raise UsageError(
            f"the images of {folder} are no longer at {root}; name their place: "
            f"assay {command} {folder} IMAGES"
        )
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
    """None where noise.json has none: it is shown beside an image, and a review does without."""
    try:
        found = np.array(json.loads((folder / "noise.json").read_text(encoding="utf-8"))["transition"], float)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.shape == (n_classes, n_classes) else None
