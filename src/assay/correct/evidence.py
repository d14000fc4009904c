"""What the labels of an image say about its true class: log P(labels | true).

A kind of labels, such as one noisy label an image or those of several annotators, is a ``LabelEvidence``:
how it errs is fitted to trusted labels and, where these are few, to out-of-fold predictions.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import numpy as np
from jaxtyping import Float

from assay.errors import LabelError
from assay.noise.transition import mixed_transition
from assay.types import UNKNOWN, Labels, Mask, Probs, Rows, Transition

# Stands for a probability of 0, so that two certainties that contradict each other stay finite.
TINY = 1e-30

BLIND_STRENGTH = 0.3
"""λ of noisy labels without trusted ones: what was best on people's labels and on drawn ones."""

LogProbs = Float[np.ndarray, "_ K"]


@runtime_checkable
class LabelEvidence(Protocol):
    """The labels of N images, and how they err."""

    @property
    def noisy(self) -> Labels:
        """One label of each image to begin with, such as the most frequent one; UNKNOWN without any."""

    @property
    def strength(self) -> float:
        """λ, the power of the evidence, where no trusted label tells."""

    def at(self, rows: Rows) -> Self:
        """The labels of some images alone."""

    def evidence(self, pred_probs: Probs, trusted: Labels) -> LogProbs:
        """Log P(labels | true) (N, K); zeros, which are no evidence, for an image without a label.

        Parameters
        ----------
        pred_probs : P(true | image) (N, K) of classifiers that saw no label of the image
        trusted : the trusted labels to fit to; UNKNOWN for most, or for all
        """


@dataclass(frozen=True)
class NoisyLabels:
    """One noisy label an image, of one transition matrix."""

    noisy: Labels
    """UNKNOWN where there is none."""
    fitted: Mask | None = None
    """False for the holdout, to whose labels nothing is fitted; None if nothing is held out."""
    strength: float = BLIND_STRENGTH
    """See ``LabelEvidence``."""

    def at(self, rows: Rows) -> Self:
        """As of any labels."""
        return replace(
            self, noisy=self.noisy[rows], fitted=None if self.fitted is None else self.fitted[rows]
        )

    def evidence(self, pred_probs: Probs, trusted: Labels) -> LogProbs:
        """As of any labels."""
        seen = self.noisy if self.fitted is None else np.where(self.fitted, self.noisy, UNKNOWN)
        return log_evidence(self.noisy, mixed_transition(seen, trusted, pred_probs))


def log_evidence(noisy: Labels, transition: Transition) -> LogProbs:
    """Log P(noisy label | true class) (N, K); zeros, which are no evidence, where there is no label."""
    n_classes = len(transition)
    strange = np.flatnonzero((noisy < UNKNOWN) | (noisy >= n_classes))
    if strange.size:
        raise LabelError(
            f"noisy[{strange[0]}]: expected a class from 0 to {n_classes - 1}, or {UNKNOWN} for unknown, "
            f"got {noisy[strange[0]]}"
        )
    evidence: LogProbs = np.log(np.maximum(transition.T, TINY))[noisy]
    evidence[noisy == UNKNOWN] = 0.0
    return evidence
