"""Belief: P(true | image) for every image, from a classifier that never saw that image.

The classifier learns from trusted and noisy labels together, by maximising the joint likelihood

    Σ_trusted log p(true) + Σ_noisy log Σ_y p(y) · transition[y, given]

(the second term is Gold Loss Correction, Hendrycks et al. 2018) with EM: fit on the trusted labels;
then in turn compute the posterior of the others and fit on it. Any scikit-learn classifier will do.

An image may come in several views, such as itself and its mirror: the classifier learns from every
view as a row of its own, and what it says of an image is the mean over the views.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay._errors import LabelError
from assay._types import UNKNOWN, Labels, Mask, Matrix, Probs, Progress, Transition, silent
from assay.fix.calibrate import calibrate_on_given
from assay.fix.posterior import posterior
from assay.fix.soft import fit_soft, predict_all

MakeClassifier = Callable[[int], Any]
"""seed -> an unfitted Classifier."""


@dataclass(frozen=True)
class CrossFit:
    """How to cross-fit; the defaults suit ten classes and ten thousand images or more."""

    rounds: int = 1
    """Times that the posterior is computed and learned from; 0 ignores the noisy labels."""
    seed: int = 0


@dataclass(frozen=True)
class Evidence:
    """What may be learned from."""

    views: tuple[Matrix, ...]
    """Features (N, D) of each view of the N images."""
    given: Labels
    trusted: Labels
    transition: Transition


def cross_fit(
    evidence: Evidence,
    fold_of: Labels,
    make: MakeClassifier,
    options: CrossFit = CrossFit(),
    progress: Progress = silent,
) -> tuple[Probs, ...]:
    """P(true | view of the image) (N, K) for each view, from classifiers that did not learn from the image.

    Parameters
    ----------
    fold_of : the fold of each image, 0 … F-1; UNKNOWN for images that nothing may learn from (the
        sealed holdout, skipped ones): they get the mean over the F classifiers
    make : a fresh classifier for a seed

    Raises
    ------
    LabelError : a fold whose other folds hold trusted labels of fewer than two classes
    """
    n_classes, folds = len(evidence.transition), int(fold_of.max()) + 1
    belief = tuple(np.zeros((len(fold_of), n_classes)) for _ in evidence.views)
    outside = np.flatnonzero(fold_of == UNKNOWN)
    for fold in range(folds):
        learn = (fold_of != fold) & (fold_of != UNKNOWN)
        classifier = fit_joint(evidence, learn, make, options)
        inside = np.flatnonzero(fold_of == fold)
        for view, probs in zip(evidence.views, belief, strict=True):
            probs[inside] = predict_all(classifier, view[inside], n_classes)
            if len(outside):
                probs[outside] += predict_all(classifier, view[outside], n_classes) / folds
        progress("believe", fold + 1, folds)
    return belief


def fit_joint(evidence: Evidence, learn: Mask, make: MakeClassifier, options: CrossFit) -> Any:
    """A classifier fitted by EM to the trusted and noisy labels of the rows where ``learn``."""
    given, trusted, n_classes = evidence.given, evidence.trusted, len(evidence.transition)
    sure = np.flatnonzero(learn & (trusted != UNKNOWN))
    noisy = np.flatnonzero(learn & (trusted == UNKNOWN) & (given != UNKNOWN))
    if len(np.unique(trusted[sure])) < 2:
        raise LabelError(
            f"expected trusted labels of two classes or more to learn from, got {len(sure)} labels of "
            f"{len(np.unique(trusted[sure]))}; add trusted labels"
        )
    certain = np.eye(n_classes)[trusted[sure]]
    classifier = _fit(make(options.seed), evidence.views, sure, certain)
    for number in range(options.rounds if len(noisy) else 0):
        belief = mean_belief(classifier, [view[noisy] for view in evidence.views], n_classes)
        if number == 0:
            # Only the first belief is free of these labels; later ones keep their own idea of its sharpness.
            belief = calibrate_on_given(belief, given[noisy], evidence.transition).apply(belief)
        likely = posterior(given[noisy], belief, evidence.transition)
        targets = np.concatenate([certain, likely])
        classifier = _fit(
            make(options.seed + number + 1), evidence.views, np.concatenate([sure, noisy]), targets
        )
    return classifier


def _fit(classifier: Any, views: Sequence[Matrix], rows: Labels, targets: Probs) -> Any:
    """Each view of an image is a row with the image's target."""
    X = np.concatenate([view[rows] for view in views])
    fit_soft(classifier, X, np.tile(targets, (len(views), 1)), np.ones(len(X)))
    return classifier


def mean_belief(classifier: Any, views: Sequence[Matrix], n_classes: int) -> Probs:
    """P(true | image) (N, K): the mean of what the classifier says of each view."""
    beliefs: Probs = np.mean([predict_all(classifier, view, n_classes) for view in views], axis=0)
    return beliefs
