"""ReviewRun: a finished run with its images, and what a review shows beside them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from assay.data.tables import read_table
from assay.errors import DataError
from assay.pipeline.finished import FinishedRun, OpenedRun, open_run
from assay.types import Transition


@dataclass(frozen=True)
class ReviewRun(OpenedRun):
    """A finished run as a person reviews it."""

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


def read_review_run(folder: Path, images: Path | None = None, *, follow_symlinks: bool = False) -> ReviewRun:
    """Read a finished run and open its images; parameters and errors as of ``open_run``."""
    run = open_run(folder, images, follow_symlinks=follow_symlinks, command="review")
    return ReviewRun(
        **vars(run),
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
