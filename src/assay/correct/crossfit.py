"""Belief: P(true | image) for every image, from a classifier that never saw that image.

The classifier learns from trusted and noisy labels together, by maximising the joint likelihood

    Σ_trusted log p(true) + Σ_noisy log Σ_y p(y) · transition[y, given]

(the second term is Gold Loss Correction, Hendrycks et al. 2018) with EM: fit on the trusted labels;
then in turn compute the posterior of the others and fit on it. Any scikit-learn classifier will do.

An image may come in several views, such as itself and its mirror: the classifier learns from every
view as a row of its own, and what it says of an image is the mean over the views.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from assay.correct.calibrate import calibrate_on_noisy
from assay.correct.posterior import posterior
from assay.correct.soft import fit_soft, predict_all
from assay.errors import LabelError
from assay.types import UNKNOWN, Labels, Mask, Matrix, Probs, Progress, Transition, same_length, silent

MakeClassifier = Callable[[int], Any]
"""seed -> an unfitted Classifier."""


@dataclass(frozen=True)
class CrossFit:
    """How to cross-fit; the defaults suit ten classes and ten thousand images or more."""

    rounds: int = 1
    """Times that the posterior is computed and learned from; 0 ignores the noisy labels."""
    seed: int = 0
    workers: int = 1
    """Classifiers fitted at the same time, in threads; the result does not depend on it."""


@dataclass(frozen=True)
class Evidence:
    """What may be learned from."""

    views: tuple[Matrix, ...]
    """Features (N, D) of each view of the N images."""
    noisy: Labels
    """The noisy label of each image; UNKNOWN where there is none."""
    trusted: Labels
    """The trusted label; UNKNOWN for most. Where it is known, the noisy one is not learned from."""
    transition: Transition
    """P(given | true) at [true, given]."""

    def __post_init__(self) -> None:
        views = {f"views[{number}]": view for number, view in enumerate(self.views)}
        same_length(noisy=self.noisy, trusted=self.trusted, **views)


@dataclass(frozen=True)
class CrossFitted:
    """Beliefs that are honest, and the classifier that they vouch for."""

    views: tuple[Probs, ...]
    """P(true | view of an image) (N, K), for each view, from classifiers that never saw the image."""
    classifier: Any
    """Fitted in the same way to all images that have a fold."""

    @property
    def pred_probs(self) -> Probs:
        """P(true | image) (N, K): the mean over the views."""
        mean: Probs = np.mean(self.views, axis=0)
        return mean


def cross_fit(
    evidence: Evidence,
    fold_of: Labels,
    make: MakeClassifier,
    options: CrossFit = CrossFit(),
    progress: Progress = silent,
) -> CrossFitted:
    """Fit a classifier without each fold in turn, and one with all of them.

    Parameters
    ----------
    fold_of : the fold of each image, 0 … F-1; UNKNOWN for images that nothing may learn from (the
        sealed holdout, skipped ones): they get the mean over the F classifiers
    make : a fresh classifier for a seed

    Raises
    ------
    LabelError : a fold whose other folds hold trusted labels of fewer than two classes
    ValueError : fewer than two folds
    """
    folds = int(fold_of.max(initial=UNKNOWN)) + 1
    if folds < 2:
        raise ValueError(f"fold_of: expected folds 0, 1 and so on, got {folds} of them")
    views = tuple(np.zeros((len(fold_of), len(evidence.transition))) for _ in evidence.views)
    # UNKNOWN is nobody's fold, so leaving it out leaves out nothing: the classifier that is kept.
    left_out = [UNKNOWN, *range(folds)]
    with ThreadPoolExecutor(options.workers) as pool:
        fitted = pool.map(lambda fold: fit_joint(evidence, _learners(fold_of, fold), make, options), left_out)
        everything = next(fitted)
        for fold, classifier in enumerate(fitted):
            _score(classifier, evidence.views, fold_of, fold, views)
            progress("believe", fold + 1, folds)
    outside = fold_of == UNKNOWN
    for probs in views:
        probs[outside] /= folds
    return CrossFitted(views, everything)


def _learners(fold_of: Labels, left_out: int) -> Mask:
    mask: Mask = (fold_of != UNKNOWN) & (fold_of != left_out)
    return mask


def _score(
    classifier: Any, features: Sequence[Matrix], fold_of: Labels, fold: int, views: Sequence[Probs]
) -> None:
    """Fill in what a classifier says of the fold that it did not see, and add to those without a fold."""
    rows = np.flatnonzero((fold_of == fold) | (fold_of == UNKNOWN))
    for feature, probs in zip(features, views, strict=True):
        probs[rows] += predict_all(classifier, feature[rows], probs.shape[1])


def fit_joint(evidence: Evidence, learn: Mask, make: MakeClassifier, options: CrossFit) -> Any:
    """A classifier fitted by EM to the trusted and noisy labels of the rows where ``learn``."""
    noisy, trusted, n_classes = evidence.noisy, evidence.trusted, len(evidence.transition)
    sure = np.flatnonzero(learn & (trusted != UNKNOWN))
    noisy_rows = np.flatnonzero(learn & (trusted == UNKNOWN) & (noisy != UNKNOWN))
    known = len(np.unique(trusted[sure]))
    if known < 2:
        raise LabelError(
            "expected trusted labels of two classes or more in each part to learn from, "
            f"got {len(sure)} of {known}; add trusted labels"
        )
    certain = np.eye(n_classes)[trusted[sure]]
    classifier = _fit(make(options.seed), evidence.views, sure, certain)
    for number in range(options.rounds if len(noisy_rows) else 0):
        pred_probs = mean_pred_probs(classifier, [view[noisy_rows] for view in evidence.views], n_classes)
        if number == 0:
            # Only the first belief is free of these labels; later ones keep their own idea of its sharpness.
            pred_probs = calibrate_on_noisy(pred_probs, noisy[noisy_rows], evidence.transition).apply(
                pred_probs
            )
        likely = posterior(noisy[noisy_rows], pred_probs, evidence.transition)
        targets = np.concatenate([certain, likely])
        both = np.concatenate([sure, noisy_rows])
        classifier = _fit(make(options.seed + number + 1), evidence.views, both, targets)
    return classifier


def _fit(
    classifier: Any, views: Sequence[Matrix], rows: Int[np.ndarray, "R"], targets: Float[np.ndarray, "R K"]
) -> Any:
    """Each view of an image is a row with the image's target."""
    X = np.concatenate([view[rows] for view in views])
    fit_soft(classifier, X, np.tile(targets, (len(views), 1)))
    return classifier


def mean_pred_probs(classifier: Any, views: Sequence[Matrix], n_classes: int) -> Probs:
    """P(true | image) (N, K): the mean of what the classifier says of each view."""
    all_pred_probs: Probs = np.mean([predict_all(classifier, view, n_classes) for view in views], axis=0)
    return all_pred_probs
