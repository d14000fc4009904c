"""FixedLabels: what each label should be, how sure that is, and on what evidence."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Shaped

from assay.correct.label_issues import rank_label_issues
from assay.types import UNKNOWN, Labels, Mask, PerImage, Probs, same_length

THRESHOLD = 0.8
"""On the course data, posteriors above it were right on 97.9 % of the images."""

ACTIONS = ("kept", "changed", "unsure", "trusted", "skipped")


@dataclass(frozen=True)
class CorrectedLabels:
    """The most probable class of each image, and whether to rely on it."""

    noisy: Labels
    """The noisy label; UNKNOWN where there is none."""
    trusted: Labels
    """Labels that the fix could rely on; UNKNOWN for the holdout."""
    pred_probs: Probs
    """P(true | image), calibrated: out of fold, or of a model that learned from the given label; see
    ``checked``."""
    posterior: Probs
    """P(true | image, given), out of fold: for a trusted image too, so that it can be checked; see
    ``checked``."""
    usable: Mask
    """False where the image was skipped."""
    strength: float
    """λ, the power of the given label's evidence."""
    threshold: float = THRESHOLD
    """Confidence from which a label counts as kept or changed."""
    decided: Mask | None = None
    """True where the trusted label is a decision of a review; None if there is no such label."""
    checked: Mask | None = None
    """True where belief and posterior were made without the trusted label; None if they were everywhere."""

    def __post_init__(self) -> None:
        same_length(
            noisy=self.noisy,
            trusted=self.trusted,
            pred_probs=self.pred_probs,
            posterior=self.posterior,
            usable=self.usable,
        )

    def at(self, threshold: float) -> "CorrectedLabels":
        """The same evidence, judged at another threshold."""
        return replace(self, threshold=threshold)

    def relying_on(self, known: Labels) -> "CorrectedLabels":
        """The same evidence, with labels that a person decided relied on like trusted ones."""
        return replace(self, trusted=known, decided=(known != UNKNOWN) & (self.trusted == UNKNOWN))

    @property
    def sample(self) -> Int[np.ndarray, "R"]:
        """What figures may be counted on: usable rows whose posterior was made without their trusted label.
        Decided ones are left out, for they were picked for being doubtful.
        """
        counted = self.usable & (self.trusted != UNKNOWN)
        counted = counted if self.checked is None else counted & self.checked
        return np.flatnonzero(counted if self.decided is None else counted & ~self.decided)

    @property
    def corrected(self) -> Labels:
        """The trusted class, else the most probable one; UNKNOWN where skipped."""
        best = np.where(self.trusted != UNKNOWN, self.trusted, self.posterior.argmax(axis=1))
        return np.where(self.usable, best, UNKNOWN)

    @property
    def confidence(self) -> PerImage:
        """P(fixed is right): 1 for trusted, 0 for skipped."""
        sure = np.where(self.trusted != UNKNOWN, 1.0, self.posterior.max(axis=1))
        return np.where(self.usable, sure, 0.0)

    @property
    def label_quality(self) -> PerImage:
        """P(the given label is right); 0 where there is none."""
        rows = np.arange(len(self.noisy))
        likely = np.where(
            self.trusted != UNKNOWN, self.trusted == self.noisy, self.posterior[rows, self.noisy]
        )
        return np.where(self.usable & (self.noisy != UNKNOWN), likely, 0.0)

    @property
    def actions(self) -> Shaped[np.ndarray, "N"]:
        """One of ``ACTIONS`` for each image. An image without a given label is changed or unsure."""
        judged = np.where(self.corrected == self.noisy, "kept", "changed")
        judged = np.where(self.confidence < self.threshold, "unsure", judged)
        judged = np.where(self.trusted != UNKNOWN, "trusted", judged)
        return np.where(self.usable, judged, "skipped")

    @property
    def counts(self) -> Mapping[str, int]:
        """Images of each action, in the order of ``ACTIONS``."""
        found = Counter(self.actions.tolist())
        return {action: found[action] for action in ACTIONS}

    @property
    def label_issues(self) -> Int[np.ndarray, "R"]:
        """Rows whose given label is neither checked nor skipped, the one most likely wrong first."""
        open_rows = np.where(self.usable & (self.trusted == UNKNOWN), self.noisy, UNKNOWN)
        return rank_label_issues(open_rows, self.posterior)
