"""Trusted images that fine-tuning is judged by: some are learned from as noisy ones, some not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay._errors import LabelError
from assay._types import UNKNOWN
from assay.data.split import folds
from assay.recipes.assay import Labelled
from assay.recipes.sealing import Group

SHARE = 10
"""One trusted image in so many is watched, one the audit's."""

MOST = 1_000
"""Of each; more would tell little that these do not."""

FEWEST = 20
"""Trusted images, two of which are set aside."""


@dataclass(frozen=True)
class Aside:
    """Which images are for what; the three parts have no row in common, each is ascending."""

    learn: Int[np.ndarray, "R"]
    """Learned from: all that may be, the audit too, with its given labels alone."""
    audit: Int[np.ndarray, "A"]
    """Trusted images among them whose trusted label is not learned from."""
    watched: Int[np.ndarray, "W"]
    """Trusted images that nothing is learned from."""


def set_aside(data: Labelled, copies: Sequence[Group]) -> Aside:
    """Draw a tenth of the trusted images for each, from each class in proportion.

    Parameters
    ----------
    copies : rows that show one picture; a copy of a watched picture is not learned from either

    Raises
    ------
    LabelError : too few trusted images
    """
    trusted = np.flatnonzero((data.trusted != UNKNOWN) & (data.fold_of != UNKNOWN))
    if len(trusted) < FEWEST:
        raise LabelError(
            f"expected {FEWEST} trusted images or more besides the holdout's to fine-tune by, got "
            f"{len(trusted)}; add trusted labels, or take --effort fast"
        )
    part = folds(data.trusted[trusted], max(SHARE, -(-len(trusted) // MOST)), data.seed)
    watched, audit = trusted[part == 0], trusted[part == 1]
    shown = [group for group in copies if np.isin(group, watched).any()]
    learn = np.setdiff1d(np.flatnonzero(data.fold_of != UNKNOWN), np.concatenate([watched, *shown]))
    return Aside(learn, np.intersect1d(audit, learn), watched)
