"""Looks: what a finished student says of every image, and of the mirrors of those that it is unsure of.

Of images that were not learned from it says what the saved model will, in float32: they give the figures.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from assay._types import Batch, Mask, Probs, Progress, silent
from assay.embed.backbone import TimmBackbone
from assay.fix.calibrate import Calibration
from assay.learn.finetune import Tuned
from assay.learn.scoring import score
from assay.learn.second_look import SECOND_LOOK_BELOW, look_again

Rows = Int[np.ndarray, "_"]


@dataclass
class Looks:
    """A student that is asked about each image, and about each mirror, once at most."""

    tuned: Tuned
    squares: Batch
    """(N, s, s, 3), of all images."""
    learned_from: Mask
    """(N,) Images that were learned from: they are asked about in the dtype that is fastest here."""
    usable: Mask
    """(N,) False where the image was skipped."""
    workers: int = 1
    progress: Progress = silent
    first: Probs = field(init=False)
    """P(class) (N, K) of the images as they are; evenly unsure of those that were skipped."""
    _exact: TimmBackbone = field(init=False, repr=False)
    _mirrors: Probs = field(init=False, repr=False)
    """(N, K) of the mirrors that were asked about; else 0."""

    def __post_init__(self) -> None:
        n, k = len(self.usable), self.tuned.head.n_classes
        self.first, self._mirrors = np.full((n, k), 1 / k), np.zeros((n, k))
        self._exact = self.tuned.backbone.exact()
        self._ask(self.first, np.flatnonzero(self.usable), self.squares)

    def again(self, calibration: Calibration | None = None, rows: Rows | None = None) -> Probs:
        """P(class) (R, K) after a second look where the first is unsure; both calibrated, if asked.

        Parameters
        ----------
        rows : images that are looked at; by default all
        """
        rows = np.arange(len(self.usable)) if rows is None else rows
        says = calibration.apply(self.first[rows]) if calibration else self.first[rows]
        seen = np.flatnonzero(self.usable[rows])

        def mirrored(unsure: Rows) -> Probs:
            some = rows[seen[unsure]]
            self._ask(self._mirrors, some[~self._mirrors[some].any(axis=1)], self.squares[:, :, ::-1])
            told: Probs = self._mirrors[some]
            return calibration.apply(told) if calibration else told

        says[seen] = look_again(says[seen], mirrored, SECOND_LOOK_BELOW)
        return says

    def _ask(self, answers: Probs, rows: Rows, squares: Batch) -> None:
        """Fill some rows of ``answers`` with what the student says of these ``squares``."""
        known = self.learned_from[rows]
        for some, network in ((rows[known], self.tuned.backbone), (rows[~known], self._exact)):
            answers[some] = score(
                network, self.tuned.head, squares, some, workers=self.workers, progress=self.progress
            )
