"""A plan: what more trusted labels would be worth, and which images to label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.split import Split
from assay.data.write import Column, write_json, write_rows
from assay.errors import UsageError
from assay.pipeline.finished import stored_features
from assay.pipeline.holdout import mask_holdout
from assay.pipeline.label_value import FOLDS, LabelValue, measure_label_value
from assay.pipeline.options import RunOptions
from assay.review.queue import order_images
from assay.review.run import ReviewRun
from assay.types import Progress, Rows, silent

COLUMNS = ("file", "part", "corrected_label", "confidence")

MORE = (100, 500, 2_000)


@dataclass(frozen=True)
class Plan:
    """What to label, and what for."""

    run: ReviewRun
    worth: LabelValue
    more: tuple[int, ...]
    random: Rows
    """A fair sample of the images without a label in the file of trusted ones, for that file: whoever decided
    some of them in a review did not draw them.
    """
    doubtful: Rows
    """As many that no review of this run has looked at, the least sure first: for ``assay review``."""

    @property
    def corrected(self) -> float:
        """Labels that looking at the doubtful images would probably put right."""
        return float(np.sum(1 - self.run.confidence[self.doubtful]))

    def to_json(self) -> dict[str, Any]:
        """What plan.json holds."""
        looks = {"looks": len(self.doubtful), "labels_put_right": self.corrected}
        return self.worth.to_json(self.more) | {"doubtful": looks, "random": {"images": len(self.random)}}

    def write(self, folder: Path) -> None:
        """Write plan.csv, an image a row, and plan.json."""
        rows = np.concatenate([self.random, self.doubtful])
        parts = ["random"] * len(self.random) + ["doubtful"] * len(self.doubtful)
        columns: list[Column] = [
            [self.run.names[row] for row in rows],
            parts,
            [self.run.label(int(row)) or "" for row in self.run.proposed[rows]],
            [round(float(sure), 4) for sure in self.run.confidence[rows]],
        ]
        write_rows(folder / "plan.csv", COLUMNS, columns)
        write_json(folder / "plan.json", self.to_json())


def plan_labels(
    run: ReviewRun,
    cache: Path,
    *,
    more: Sequence[int] = MORE,
    label: int = 100,
    workers: int = 2,
    progress: Progress = silent,
) -> Plan:
    """Measure what the run's trusted labels gave, and choose images to label.

    Parameters
    ----------
    cache : that holds the run's features
    more : numbers of further trusted labels
    label : images to choose, in each part

    Raises
    ------
    UsageError : a number below 1, or features that are not in the cache
    DataError : images that were changed since
    LabelError : too few trusted labels to tell
    """
    check_numbers(more, label)
    dataset, features = stored_features(run, run.images, cache, workers=workers, progress=progress)
    held = np.flatnonzero(run.held_out)
    options = RunOptions(folds=FOLDS, seed=int(run.record["settings"]["seed"]), workers=workers)
    split = Split(np.flatnonzero(dataset.trusted >= 0), held)
    partition = mask_holdout(dataset, split, features, options)
    left = run.is_open & ~run.is_reviewed
    told = run.noisy, run.proposed, run.confidence
    doubtful = order_images(*told, left, strategy="doubtful").rows
    fair = order_images(*told, run.is_unlabelled, strategy="random").rows
    return Plan(
        run,
        measure_label_value(partition.data, len(held), progress=progress),
        tuple(more),
        fair[:label],
        doubtful[:label],
    )


def check_numbers(more: Sequence[int], label: int) -> None:
    """UsageError for a number of labels below 1."""
    if min(*more, label, 1) < 1:
        raise UsageError(f"expected numbers of labels from 1 on, got {', '.join(map(str, (*more, label)))}")
