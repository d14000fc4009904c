"""How often a model's prediction sets hold the right label, on images that it has nothing from.

Their thresholds come from trusted images that may be learned from; what was asked is promised for images
like those. Whether the promise holds is counted on the sealed holdout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.data.dataset import Dataset
from assay.evaluate import wilson
from assay.pipeline.assay import Learned
from assay.pipeline.holdout import Sealed
from assay.predict.conformal import conformal_thresholds, prediction_sets
from assay.types import Labels, Probs

TOLD = (0.9, 0.95, 0.99)
"""The shares that a model card tells of."""


@dataclass(frozen=True)
class Coverage:
    """The sets for one share that may be asked for."""

    asked: float
    n: int
    """Images."""
    held: int
    """Of them whose set holds the right label."""
    labels: float
    """In a set, on average."""

    def to_json(self) -> dict[str, float]:
        """As plain numbers, with Wilson's interval."""
        return {"asked": self.asked, **wilson(self.held, self.n).to_json(), "labels": self.labels}


def thresholds_of(learned: Learned) -> dict[str, float]:
    """Share -> least probability of a class in a set, from trusted images that the model did not see."""
    rows = learned.corrected.sample if learned.validation is None else learned.validation
    return conformal_thresholds(learned.unseen[rows], learned.corrected.trusted[rows])


def held_out_coverage(
    dataset: Dataset, sealed: Sealed, learned: Learned, thresholds: Mapping[str, float]
) -> tuple[Coverage, ...]:
    """Of each share that the model has a threshold for; none without a holdout.

    Like ``measuring.held_out`` it reads the holdout's trusted labels, when all is done.
    """
    rows = sealed.judges
    return coverages(learned.says(rows), dataset.trusted[rows], thresholds) if len(rows) else ()


def coverages(probs: Probs, truth: Labels, thresholds: Mapping[str, float]) -> tuple[Coverage, ...]:
    """What sets by these thresholds hold.

    Parameters
    ----------
    probs : P(class) (N, K)
    truth : (N,) class indices
    """
    found = []
    for asked, least in thresholds.items():
        sets = prediction_sets(probs, least)
        held = int(sets[np.arange(len(truth)), truth].sum())
        found.append(Coverage(float(asked), len(truth), held, float(sets.sum(axis=1).mean())))
    return tuple(found)


def coverage_lines(found: Sequence[Coverage]) -> list[str]:
    """A table for a model card; nothing where nothing was held out."""
    rows = [_line(one) for one in found if one.asked in TOLD]
    if not rows:
        return []
    head = ["| asked | sets that hold the right label | labels in a set |", "|---|---|---|"]
    return ["", "Sets of labels (`--coverage`), on the holdout:", "", *head, *rows]


def _line(one: Coverage) -> str:
    share = wilson(one.held, one.n)
    return (
        f"| {100 * one.asked:g} % | {100 * share.estimate:.1f} % "
        f"({100 * share.low:.1f} to {100 * share.high:.1f}), n = {one.n:,} | {one.labels:.2f} |"
    )
