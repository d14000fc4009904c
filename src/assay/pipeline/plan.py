"""A plan: the value of more trusted labels, and which images to label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.split import Split
from assay.data.write import Column, write_json, write_rows
from assay.errors import UsageError
from assay.pipeline.finished import OpenedRun, stored_features
from assay.pipeline.holdout import mask_holdout
from assay.pipeline.label_value import FOLDS, LabelValue, measure_label_value
from assay.pipeline.options import RunOptions
from assay.types import UNKNOWN, Progress, Rows, silent

COLUMNS = ("file", "part", "corrected_label", "confidence")

MORE = (100, 500, 2_000)


@dataclass(frozen=True)
class Plan:
    """Images to label, and what more labels are worth."""

    run: OpenedRun
    value: LabelValue
    more: tuple[int, ...]
    random: Rows
    """A fair sample of the images that are not in the file of trusted labels, to be added to it; decided ones
    included, for nobody drew them."""
    doubtful: Rows
    """As many images of the lowest confidence that are not reviewed, for ``assay review``."""

    def to_json(self) -> dict[str, Any]:
        """The content of plan.json."""
        corrections = float(np.sum(1 - self.run.confidence[self.doubtful]))
        return self.value.to_json(self.more) | {
            "doubtful": {"images": len(self.doubtful), "expected_corrections": corrections},
            "random": {"images": len(self.random)},
        }

    def write(self, folder: Path) -> None:
        """Write plan.csv, one row an image, and plan.json."""
        rows = np.concatenate([self.random, self.doubtful])
        columns: list[Column] = [
            [self.run.names[row] for row in rows],
            ["random"] * len(self.random) + ["doubtful"] * len(self.doubtful),
            [self.run.label(int(row)) or "" for row in self.run.proposed[rows]],
            [round(float(sure), 4) for sure in self.run.confidence[rows]],
        ]
        write_rows(folder / "plan.csv", COLUMNS, columns)
        write_json(folder / "plan.json", self.to_json())


def plan_labels(
    run: OpenedRun,
    cache: Path,
    *,
    more: Sequence[int] = MORE,
    label: int = 100,
    workers: int = 2,
    progress: Progress = silent,
) -> Plan:
    """Measure the value of the run's trusted labels, and choose images to label.

    Parameters
    ----------
    cache : that holds the run's features
    more : numbers of additional trusted labels
    label : images to choose, in each part

    Raises
    ------
    UsageError : a number below 1, or features that are not in the cache
    DataError : images that were changed since the run
    LabelError : too few trusted labels
    """
    check_numbers(more, label)
    dataset, features = stored_features(run, run.images, cache, workers=workers, progress=progress)
    held = np.flatnonzero(run.held_out)
    options = RunOptions(folds=FOLDS, seed=int(run.record["settings"]["seed"]), workers=workers)
    split = Split(np.flatnonzero(dataset.trusted != UNKNOWN), held)
    data = mask_holdout(dataset, split, features, options).data
    left = np.flatnonzero(run.is_open & ~run.is_reviewed)
    doubtful = left[np.argsort(run.confidence[left], kind="stable")]
    random = np.random.default_rng(0).permutation(np.flatnonzero(run.is_unlabelled))
    value = measure_label_value(data, len(held), progress=progress)
    return Plan(run, value, tuple(more), random[:label], doubtful[:label])


def check_numbers(more: Sequence[int], label: int) -> None:
    """UsageError for a number of labels below 1."""
    if min(*more, label, 1) < 1:
        raise UsageError(f"expected numbers of labels from 1 on, got {', '.join(map(str, (*more, label)))}")
