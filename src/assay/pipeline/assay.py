"""assay at preset ``fast``: frozen features, a cross-fitted belief, the posterior, a head on it.

The head learns from each image and its mirror. The belief that fixes the labels is the mean over both;
the model that is saved looks at the image alone, at half the cost, and its figures are its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from assay.correct.posterior import NO_FLOOR, calibrate, other_folds
from assay.correct.result import CorrectedLabels, correct_labels
from assay.embed.device import one_thread_each
from assay.embed.images import Features
from assay.noise import Noise, Representative, check_representative
from assay.predict.layers import Layers
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels, Mask, Matrix, Probs, Progress, Rows, silent


@dataclass(frozen=True)
class Labelled:
    """What may be learned from: features and labels, the seal already closed."""

    features: Features
    noisy: Labels
    """UNKNOWN for the holdout and for skipped images."""
    trusted: Labels
    """UNKNOWN for the holdout and for skipped images."""
    usable: Mask
    """False where the image was skipped."""
    fold_of: Labels
    """Fold of each image; UNKNOWN for the holdout and for skipped images."""
    classes: tuple[str, ...]
    """K names for people."""
    seed: int
    threshold: float
    workers: int = 1
    """Heads fitted at the same time; best one for each core."""
    known: Labels | None = None
    """``trusted`` with the decisions of a review, which teach; they are no random choice of images, so the
    noise, the calibration and every figure rest on ``trusted`` alone. None if there are no decisions."""
    all_noisy: Labels | None = None
    """The noisy labels with the holdout's: its posterior is computed from them, nothing is learned. None if
    nothing is held out."""

    @property
    def for_posterior(self) -> Labels:
        """The noisy labels that a posterior is computed from."""
        return self.noisy if self.all_noisy is None else self.all_noisy


@dataclass(frozen=True)
class Learned:
    """The head, and everything that was found on the way to it."""

    head: Layers
    """Calibrated; for the features of an image as it is."""
    noise: Noise
    representative: Representative
    corrected: CorrectedLabels
    unseen: Probs
    """P(class | image) (N, K) as the head gives it, calibrated, from heads that never saw the image: what
    cross-validated figures rest on. With ``validation`` from this very model, and honest of those rows alone,
    each half of them calibrated on the other."""
    says: Callable[[Rows], Probs]
    """P(class) of images that were not learned from, the holdout's at least, at some rows: as the saved model
    gives it, after its second look."""
    validation: Rows | None = None
    """Trusted images that were kept aside to measure a fine-tuned model; None where folds do that."""
    flip_tta_below: float = 0.0
    """Of the saved model, see ``learn.flip_tta``; 0 for one that looks once."""


def learn(data: Labelled, *, progress: Progress = silent) -> Learned:
    """Estimate the noise, fix the labels, fit the head; nothing here sees the holdout's trusted labels."""
    fit, views = data.fold_of != UNKNOWN, data.features.views
    with one_thread_each():
        found = correct_labels(
            views,
            data.noisy,
            data.trusted,
            data.fold_of,
            make_head,
            classes=data.classes,
            known=data.known,
            all_noisy=data.all_noisy,
            usable=data.usable,
            seed=data.seed,
            workers=data.workers,
            threshold=data.threshold,
            progress=progress,
        )
    fitted = found.fitted
    plain = fitted.views[0]
    calibration = calibrate(plain, data.trusted, NO_FLOOR)
    head: Layers = fitted.classifier.layers_.calibrated(calibration.inverse_temperature, calibration.bias)
    unseen = calibration.apply(plain)
    for told, others in other_folds(data.trusted, data.fold_of):
        unseen[told] = calibrate(plain, others, NO_FLOOR).apply(plain[told])
    return Learned(
        head=head,
        noise=found.noise,
        representative=check_representative(
            views[0], data.noisy, data.trusted, rows=fit, classes=data.classes, seed=data.seed
        ),
        corrected=found.corrected,
        unseen=unseen,
        says=lambda rows: head.probabilities(views[0][rows]),
    )


def noisy_only(views: tuple[Matrix, ...], noisy: Labels, n_classes: int, seed: int) -> Layers:
    """The same head when the noisy labels are taken as true: what it would be without this package."""
    rows = np.flatnonzero(noisy != UNKNOWN)
    targets = np.eye(n_classes)[noisy[rows]]
    X = np.concatenate([view[rows] for view in views])
    return make_head(seed).fit_soft(X, np.tile(targets, (len(views), 1))).layers_
