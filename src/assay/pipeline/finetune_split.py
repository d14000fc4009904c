"""Trusted images that measure fine-tuning: some are trained on by their noisy label, some not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay.data.split import folds, in_proportion
from assay.errors import LabelError
from assay.pipeline.learn import TrainingLabels
from assay.types import UNKNOWN, Groups, Labels, Rows

Group = Int[np.ndarray, "_"]
"""Rows of near-duplicates, ascending; groups differ in length."""

SHARE = 0.1
"""Of the trusted images, for validation and as much for calibration."""

MOST = 1_000
"""Of each; more would add little."""

FEWEST = 20
"""Trusted images, of which two are set aside for each."""

FEWEST_GROUPS = 6
"""Groups of trusted images, of which two are set aside for each."""


@dataclass(frozen=True)
class FineTuneSplit:
    """Which images are for what; rows, ascending."""

    train: Int[np.ndarray, "R"]
    """Trained on: all that may be, the calibration rows by their noisy label alone."""
    calibration_rows: Int[np.ndarray, "A"]
    """Trusted images among them whose trusted label is hidden from training."""
    validation: Int[np.ndarray, "W"]
    """Trusted images that are not trained on; the first labels of others rest on theirs too."""


def check_enough(trusted: Rows, groups: Groups | None = None) -> None:
    """LabelError unless these rows, the trusted ones besides the holdout's, are enough for fine-tuning."""
    n_groups = FEWEST_GROUPS if groups is None else len(np.unique(groups[trusted]))
    for n, fewest, of in (len(trusted), FEWEST, ""), (n_groups, FEWEST_GROUPS, " of different groups"):
        if n < fewest:
            raise LabelError(
                f"expected {fewest} trusted images{of} or more besides the holdout's to fine-tune by, got "
                f"{n}; add trusted labels, or take --preset fast"
            )


def draw_measured(
    labels: Labels, trusted: Int[np.ndarray, "M"], seed: int, groups: Groups | None = None
) -> tuple[Int[np.ndarray, "W"], Int[np.ndarray, "A"]]:
    """Validation and calibration rows, ascending: a tenth of the trusted ones each, from each class.

    Parameters
    ----------
    groups : of all rows; whole groups are drawn, two or more for each, so that of few it is more than a tenth
    """
    n = min(round(len(trusted) * SHARE), MOST)
    if groups is not None and n:
        parts = max(min(len(trusted) // n, len(np.unique(groups[trusted])) // 2), 2)
        fold_of = folds(labels[trusted], parts, seed, groups[trusted])
        return trusted[fold_of == 0], trusted[fold_of == 1]
    order = in_proportion(labels, trusted, seed)
    return np.sort(order[:n]), np.sort(order[n : 2 * n])


def split_for_finetuning(data: TrainingLabels, near_duplicates: Sequence[Group]) -> FineTuneSplit:
    """Set a tenth of the trusted images aside for validation and for calibration.

    Parameters
    ----------
    near_duplicates : groups of rows; a near-duplicate of a validation image is not trained on either, and an
        image whose label a near-duplicate gives away is not used for calibration

    Raises
    ------
    LabelError : too few trusted images, or none without a near-duplicate
    """
    trusted = np.flatnonzero((data.trusted != UNKNOWN) & (data.fold_of != UNKNOWN))
    check_enough(trusted, data.groups)
    validation, calibration = draw_measured(data.trusted, trusted, data.seed, data.groups)
    known = data.trusted if data.known is None else data.known
    shown = [group for group in near_duplicates if np.isin(group, validation).any()]
    given_away = [group for group in near_duplicates if np.sum(known[group] != UNKNOWN) > 1]
    if data.groups is not None:
        # Of declared groups no image stays behind; near-duplicates within one, such as frames of a film, give
        # nothing away, as all its trusted labels are hidden.
        apart = [group[~np.isin(group, calibration)] for group in given_away]
        given_away = [
            np.flatnonzero(np.isin(data.groups, data.groups[group]))
            for group, others in zip(given_away, apart, strict=True)
            if (known[others] != UNKNOWN).any()
        ]
        shown.append(np.flatnonzero(np.isin(data.groups, data.groups[validation])))
    train = np.setdiff1d(np.flatnonzero(data.fold_of != UNKNOWN), np.concatenate([validation, *shown]))
    calibration = np.setdiff1d(np.intersect1d(calibration, train), np.concatenate([validation, *given_away]))
    if not len(calibration):
        raise LabelError(
            "expected trusted images without near-duplicates to fine-tune by, got none among "
            f"{len(trusted)}; add trusted labels, or take --preset fast"
        )
    return FineTuneSplit(train, calibration, validation)
