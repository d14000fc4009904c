"""Trusted images that fine-tuning is judged by: some are learned from as noisy ones, some not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay.data.split import in_proportion
from assay.errors import LabelError
from assay.pipeline.learn import Labelled
from assay.types import UNKNOWN, Labels

Group = Int[np.ndarray, "_"]
"""Rows that show one picture, ascending; groups differ in length."""

ONE_IN = 10
"""One trusted image in so many is watched, one is a spy."""

MOST = 1_000
"""Of each; more would tell little that these do not."""

FEWEST = 20
"""Trusted images, of which two are set aside for each."""


@dataclass(frozen=True)
class FineTuneSplit:
    """Which images are for what; rows, ascending."""

    learn: Int[np.ndarray, "R"]
    """Learned from: all that may be, the spies too, with their given labels alone."""
    calibration_rows: Int[np.ndarray, "A"]
    """Trusted images among them whose trusted label is not learned from."""
    validation: Int[np.ndarray, "W"]
    """Trusted images that the student learns nothing from; the first labels of others rest on theirs too."""


def check_enough(n: int) -> None:
    """LabelError unless there are trusted images enough to fine-tune by, those of the holdout not counted."""
    if n < FEWEST:
        raise LabelError(
            f"expected {FEWEST} trusted images or more besides the holdout's to fine-tune by, got {n}; "
            "add trusted labels, or take --preset fast"
        )


def draw_judges(
    labels: Labels, trusted: Int[np.ndarray, "M"], seed: int
) -> tuple[Int[np.ndarray, "W"], Int[np.ndarray, "A"]]:
    """Watched rows and spies, ascending: of the trusted ones a tenth for each, from all classes alike."""
    order, n = in_proportion(labels, trusted, seed), min(round(len(trusted) / ONE_IN), MOST)
    return np.sort(order[:n]), np.sort(order[n : 2 * n])


def split_for_finetuning(data: Labelled, near_duplicates: Sequence[Group]) -> FineTuneSplit:
    """Draw a tenth of the trusted images for each, from each class in proportion.

    Parameters
    ----------
    near_duplicates : rows that show one picture; a copy of a watched picture is not learned from either,
        and a
        picture whose label a copy tells is no spy

    Raises
    ------
    LabelError : too few trusted images, or none whose picture no copy shows
    """
    trusted = np.flatnonzero((data.trusted != UNKNOWN) & (data.fold_of != UNKNOWN))
    check_enough(len(trusted))
    validation, calibration_rows = draw_judges(data.trusted, trusted, data.seed)
    known = data.trusted if data.known is None else data.known
    shown = [group for group in near_duplicates if np.isin(group, validation).any()]
    told = [group for group in near_duplicates if np.sum(known[group] != UNKNOWN) > 1]
    learn = np.setdiff1d(np.flatnonzero(data.fold_of != UNKNOWN), np.concatenate([validation, *shown]))
    calibration_rows = np.setdiff1d(
        np.intersect1d(calibration_rows, learn), np.concatenate([validation, *told])
    )
    if not len(calibration_rows):
        raise LabelError(
            f"expected trusted images without copies to fine-tune by, got none among {len(trusted)} that "
            "were drawn from; add trusted labels, or take --preset fast"
        )
    return FineTuneSplit(learn, calibration_rows, validation)
