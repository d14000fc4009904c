"""Closing the seal: what may be learned from, what is evaluated on, what is kept out of both."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay._errors import UsageError
from assay._types import UNKNOWN
from assay.data.contents import check_conflicting_trusted, leaks
from assay.data.dataset import Dataset
from assay.data.split import Split, folds
from assay.embed.images import Features
from assay.fix.twins import near_twins
from assay.recipes.assay import Labelled
from assay.recipes.options import RunOptions


@dataclass(frozen=True)
class Sealed:
    """A dataset, parted."""

    data: Labelled
    """What may be learned from; its holdout has no trusted label and no fold."""
    holdout: Int[np.ndarray, "H"]
    """Usable held-out rows, ascending: nothing learns from them."""
    leaked: Int[np.ndarray, "L"]
    """Those of them whose picture is also in the fit part, byte for byte or as a near twin: their figures
    would measure memory, so the evaluation leaves them out and says so."""


def close_seal(dataset: Dataset, split: Split, features: Features, options: RunOptions) -> Sealed:
    """Part ``dataset`` as ``split`` says, skipped images aside.

    Raises
    ------
    LabelError : equal images with different trusted labels
    UsageError : fewer usable images than folds
    """
    usable, held = dataset.usable, np.zeros(len(dataset), dtype=bool)
    # Files that are no images may be equal, such as empty ones, and yet be of different classes.
    hashes = [
        content.hex() if content is not None and usable[row] else ""
        for row, content in enumerate(features.contents)
    ]
    check_conflicting_trusted(hashes, dataset.trusted, dataset.names, dataset.classes)
    held[split.holdout] = True
    fit_rows, holdout = np.flatnonzero(usable & ~held), split.holdout[usable[split.holdout]]
    if len(fit_rows) < options.folds:
        raise UsageError(
            f"expected at least {options.folds} usable images to learn from, got {len(fit_rows)}"
        )
    trusted, fold_of = np.where(usable & ~held, dataset.trusted, UNKNOWN), np.full(len(dataset), UNKNOWN)
    fold_of[fit_rows] = folds(trusted[fit_rows], options.folds, options.seed)
    return Sealed(
        data=Labelled(
            features,
            dataset.given,
            trusted,
            usable,
            fold_of,
            dataset.classes,
            options.seed,
            options.threshold,
            options.workers,
        ),
        holdout=holdout,
        leaked=np.union1d(leaks(hashes, holdout, fit_rows), near_twins(features.views[0], holdout, fit_rows)),
    )
