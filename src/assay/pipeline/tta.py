"""Looks: what a finished student says of every image, and of the mirrors of those that it is unsure of.

Of images that were not learned from it says what the saved model will, of their files and in float32: they
give the figures.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from assay.correct.posterior import Calibration
from assay.embed.backbone import TimmBackbone
from assay.pipeline.exact import See, exactly
from assay.predict.flip_tta import FLIP_TTA_BELOW, flip_tta
from assay.train.finetune import Tuned
from assay.train.scoring import score
from assay.types import Batch, Mask, Probs, Progress, Rows, silent


@dataclass
class FlipTTA:
    """A student that is asked about each image, and about each mirror, once at most."""

    tuned: Tuned
    squares: Batch
    """(N, s, s, 3), of all images."""
    see: See
    """The images themselves, which may be larger, or were made squares in another way."""
    learned_from: Mask
    """(N,) Images that were learned from: they are asked about as they were, in the dtype that is fastest."""
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

        def told(some: Rows, *, mirrored: bool) -> Float[np.ndarray, "A K"]:
            answers = self._mirrors if mirrored else self._looks
            self._ask(answers, some[~answers[some].any(axis=1)], mirrored)
            return calibration.apply(answers[some]) if calibration else answers[some]

        def of_mirrors(unsure: Rows) -> Probs:
            return told(rows[seen[unsure]], mirrored=True)

        says[seen] = flip_tta(told(rows[seen], mirrored=False), of_mirrors, FLIP_TTA_BELOW)
        return says

    def _ask(self, answers: Probs, rows: Rows, mirrored: bool) -> None:
        """Fill some rows of ``answers`` with what the student says of these images, or of their mirrors."""
        tuned, learned = self.tuned, self.learned_from[rows]
        if learned.any():
            squares, some = self.squares[:, :, ::-1] if mirrored else self.squares, rows[learned]
            answers[some] = score(
                tuned.backbone, tuned.head, squares, some, workers=self.workers, progress=self.progress
            )
        for some, said in exactly(self.see, rows[~learned], self._exact, tuned.head, mirrored=mirrored):
            answers[some] = said
