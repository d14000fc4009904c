"""Looks: what a finished student says of every image, and of the mirrors of those that it is unsure of.

Of images that were not learned from it says what the saved model will, in float32: they give the figures.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from assay._types import Batch, Mask, Probs, Progress, Rows, silent
from assay.embed.backbone import TimmBackbone
from assay.fix.calibrate import Calibration
from assay.learn.finetune import Tuned
from assay.learn.scoring import score
from assay.learn.second_look import SECOND_LOOK_BELOW, look_again


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
    _looks: Probs = field(init=False, repr=False)
    """(N, K) P(class) of the images as they are, where they were asked about; else 0."""
    _mirrors: Probs = field(init=False, repr=False)
    """The same of their mirrors."""

    def __post_init__(self) -> None:
        shape = len(self.usable), self.tuned.head.n_classes
        self._looks, self._mirrors = np.zeros(shape), np.zeros(shape)

    @cached_property
    def _exact(self) -> TimmBackbone:
        """The student in float32."""
        return self.tuned.backbone.exact()

    def again(self, calibration: Calibration | None = None, rows: Rows | None = None) -> Probs:
        """P(class) (R, K) after a second look where the first is unsure; both calibrated, if asked. Uniform
        for skipped images.

        Parameters
        ----------
        rows : images that are looked at; by default all
        """
        rows = np.arange(len(self.usable)) if rows is None else rows
        seen = np.flatnonzero(self.usable[rows])
        says = np.full((len(rows), self.tuned.head.n_classes), 1 / self.tuned.head.n_classes)

        def told(answers: Probs, some: Rows, squares: Batch) -> Float[np.ndarray, "A K"]:
            self._ask(answers, some[~answers[some].any(axis=1)], squares)
            return calibration.apply(answers[some]) if calibration else answers[some]

        def mirrored(unsure: Rows) -> Probs:
            return told(self._mirrors, rows[seen[unsure]], self.squares[:, :, ::-1])

        says[seen] = look_again(told(self._looks, rows[seen], self.squares), mirrored, SECOND_LOOK_BELOW)
        return says

    def _ask(self, answers: Probs, rows: Rows, squares: Batch) -> None:
        """Fill some rows of ``answers`` with what the student says of these ``squares``."""
        known = self.learned_from[rows]
        for some, exact in ((rows[known], False), (rows[~known], True)):
            if len(some):
                network = self._exact if exact else self.tuned.backbone
                answers[some] = score(
                    network, self.tuned.head, squares, some, workers=self.workers, progress=self.progress
                )
