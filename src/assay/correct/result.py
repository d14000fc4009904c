"""Corrected labels: the most probable class of each image, its confidence, and the evidence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Shaped

from assay.correct.crossfit import CrossFitted, MakeClassifier, TrainingData, cross_fit
from assay.correct.evidence import LabelEvidence
from assay.correct.outliers import Outliers
from assay.correct.posterior import Calibration, weigh
from assay.noise import Noise, estimate_noise
from assay.types import (
    UNKNOWN,
    Groups,
    Labels,
    Mask,
    Matrix,
    PerImage,
    Prior,
    Probs,
    Progress,
    Rows,
    same_length,
    silent,
)

THRESHOLD = 0.8
"""On the course data, posteriors above it were right on 97.9 % of the images."""

ACTIONS = ("kept", "changed", "unsure", "trusted", "outlier", "skipped")


@dataclass(frozen=True, repr=False)
class CorrectedLabels:
    """The most probable class of each image, and whether to rely on it."""

    noisy: Labels
    """The noisy label; UNKNOWN where there is none."""
    trusted: Labels
    """Trusted labels that the correction could use; UNKNOWN for the holdout."""
    pred_probs: Probs
    """P(true | image), calibrated: out of fold, or of a model that was trained on the noisy label; see
    ``checked``."""
    posterior: Probs
    """P(true | image, noisy), out of fold: for a trusted image too, so that it can be checked; see
    ``checked``."""
    usable: Mask
    """False where the image was skipped."""
    strength: float
    """λ, the power of the noisy label's evidence."""
    threshold: float = THRESHOLD
    """Confidence from which a label counts as kept or changed."""
    decided: Mask | None = None
    """True where the trusted label is a decision of a review; None if there is no such label."""
    checked: Mask | None = None
    """True where pred_probs and posterior were made without the trusted label; None if everywhere."""
    outliers: Outliers | None = None
    """How far out each image is; None where there are too few images to tell."""
    no_class: Mask | None = None
    """True where a person decided that the image belongs to no class; None if nowhere."""

    def __post_init__(self) -> None:
        names = ("noisy", "trusted", "pred_probs", "posterior", "usable")
        same_length(**{name: getattr(self, name) for name in names})

    def at(self, threshold: float) -> "CorrectedLabels":
        """The same evidence at another threshold."""
        return replace(self, threshold=threshold)

    def relying_on(self, known: Labels) -> "CorrectedLabels":
        """The same evidence, with the labels that a person decided counted as trusted ones."""
        return replace(self, trusted=known, decided=(known != UNKNOWN) & (self.trusted == UNKNOWN))

    @property
    def sample(self) -> Int[np.ndarray, "R"]:
        """Rows that figures may be counted on: usable, their posterior made without their trusted label."""
        counted = self.usable & (self.trusted != UNKNOWN)
        counted = counted if self.checked is None else counted & self.checked
        # Decided labels are left out: they were picked for being doubtful.
        return np.flatnonzero(counted if self.decided is None else counted & ~self.decided)

    @property
    def is_outlier(self) -> Mask:
        """True where the image belongs to no class: a person says so, or its score does."""
        found = np.zeros(len(self.noisy), dtype=bool) if self.no_class is None else self.no_class.copy()
        if self.outliers is not None:
            found[self.outliers.rows] = True
        mask: Mask = found & self.usable & (self.trusted == UNKNOWN)
        return mask

    @property
    def corrected(self) -> Labels:
        """The trusted class, else the most probable one. An outlier keeps its noisy label; UNKNOWN where a
        person says that no class is right, and where skipped.
        """
        best = np.where(self.is_outlier, self.noisy, self.posterior.argmax(axis=1))
        best = np.where(self.trusted != UNKNOWN, self.trusted, best)
        return np.where(self._has_class, best, UNKNOWN)

    @property
    def confidence(self) -> PerImage:
        """P(the corrected label is right), if a class is: 1 for trusted, 0 where there is no label."""
        sure = np.where(self.is_outlier, self._quality, self.posterior.max(axis=1))
        sure = np.where(self.trusted != UNKNOWN, 1.0, sure)
        return np.where(self._has_class, sure, 0.0)

    @property
    def label_quality(self) -> PerImage:
        """P(the noisy label is right), if a class is; 0 where there is none."""
        likely = np.where(self.trusted != UNKNOWN, self.trusted == self.noisy, self._quality)
        return np.where(self._has_class, likely, 0.0)

    @property
    def _has_class(self) -> Mask:
        return self.usable if self.no_class is None else self.usable & ~self.no_class

    @property
    def _quality(self) -> PerImage:
        likely = self.posterior[np.arange(len(self.noisy)), self.noisy]
        return np.where(self.noisy != UNKNOWN, likely, 0.0)

    @property
    def actions(self) -> Shaped[np.ndarray, "N"]:
        """One of ``ACTIONS`` for each image. An image without a noisy label is changed or unsure."""
        found = np.where(self.corrected == self.noisy, "kept", "changed")
        found = np.where(self.confidence < self.threshold, "unsure", found)
        found = np.where(self.is_outlier, "outlier", found)
        found = np.where(self.trusted != UNKNOWN, "trusted", found)
        return np.where(self.usable, found, "skipped")

    @property
    def counts(self) -> Mapping[str, int]:
        """Images of each action, in the order of ``ACTIONS``."""
        found = Counter(self.actions.tolist())
        return {action: found[action] for action in ACTIONS}

    def prior(self, rows: Rows) -> Prior:
        """P(true) of each class among ``rows``, all > 0: one image more of each class is counted."""
        likely = self.posterior[rows]
        known = np.flatnonzero(self.trusted[rows] != UNKNOWN)
        likely[known] = np.eye(likely.shape[1])[self.trusted[rows][known]]
        counts = likely.sum(axis=0) + 1
        shares: Prior = counts / counts.sum()
        return shares

    @property
    def label_issues(self) -> Int[np.ndarray, "R"]:
        """Rows whose noisy label is neither checked nor skipped, by P(the label is wrong), greatest first."""
        rows = np.flatnonzero(self._has_class & (self.trusted == UNKNOWN) & (self.noisy != UNKNOWN))
        return rows[np.argsort(self.posterior[rows, self.noisy[rows]], kind="stable")]

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {action}" for action, n in self.counts.items() if n)
        return f"CorrectedLabels({len(self.noisy):,} images: {counts}; threshold {self.threshold:g})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{action}</th><td>{n:,}</td></tr>" for action, n in self.counts.items())
        caption = f"Corrected labels of {len(self.noisy):,} images, threshold {self.threshold:g}"
        return f"<table><caption>{caption}</caption>{rows}</table>"


@dataclass(frozen=True)
class Correction:
    """Corrected labels, and all that was fitted on the way to them."""

    noise: Noise
    fitted: CrossFitted
    """Out-of-fold predictions, not calibrated, and the classifier fitted to all folds."""
    calibration: Calibration
    """Of the mean prediction over the views, by all trusted images."""
    corrected: CorrectedLabels


def correct_labels(
    views: tuple[Matrix, ...],
    labels: LabelEvidence,
    trusted: Labels,
    fold_of: Labels,
    make: MakeClassifier,
    *,
    classes: Sequence[str],
    known: Labels | None = None,
    usable: Mask | None = None,
    groups: Groups | None = None,
    seed: int = 0,
    workers: int = 1,
    threshold: float = THRESHOLD,
    progress: Progress = silent,
) -> Correction:
    """Cross-fit a classifier, compute the posterior of every image, and estimate the noise.

    Parameters
    ----------
    views : features (N, D) of each view of the N images
    labels : the noisy labels, those of the holdout for its posterior alone
    trusted : UNKNOWN for the holdout
    fold_of, make, workers : see ``cross_fit``
    classes : K names
    known : ``trusted`` with the decisions of a review, which are trained on and shown; noise, calibration and
        figures rest on ``trusted`` alone, as decided images are no random choice. None without decisions
    usable : False where the image was skipped; None if all are usable
    groups : for the intervals of the noise, see ``estimate_noise``; folds must not divide them
    """
    data = TrainingData(views, labels, trusted if known is None else known, len(classes))
    fitted = cross_fit(data, fold_of, make, seed=seed, workers=workers, progress=progress)
    found = weigh(fitted.pred_probs, trusted, fold_of, labels)
    noise = estimate_noise(
        np.where(fold_of != UNKNOWN, labels.noisy, UNKNOWN),
        trusted,
        len(classes),
        classes=classes,
        seed=seed,
        groups=groups,
        pred_probs=found.pred_probs,
    )
    usable = np.ones(len(trusted), dtype=bool) if usable is None else usable
    corrected = CorrectedLabels(
        labels.noisy, trusted, found.pred_probs, found.posterior, usable, found.strength, threshold
    )
    corrected = corrected if known is None else corrected.relying_on(known)
    return Correction(noise, fitted, found.calibration, corrected)
