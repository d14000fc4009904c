"""Belief: P(true | image) for every image, from a classifier that never saw that image.

The classifier learns from trusted and noisy labels together, by maximising the joint likelihood

    Σ_trusted log p(true) + Σ_noisy log Σ_y p(y) · transition[y, given]

(the second term is Gold Loss Correction, Hendrycks et al. 2018) with EM: fit on the trusted labels;
then in turn compute the posterior of the others and fit on it. Any scikit-learn classifier will do.
"""

from collections.abc import Callable
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
    trusted_weight: float = 1.0
    """Weight of a trusted row beside a noisy one."""
    seed: int = 0


def cross_fit(
    features: Matrix,
    given: Labels,
    trusted: Labels,
    transition: Transition,
    fold_of: Labels,
    make: MakeClassifier,
    options: CrossFit = CrossFit(),  # frozen: sharing it is safe
    progress: Progress = silent,
) -> Probs:
    """P(true | image) (N, K), each row from a classifier that did not learn from it.

    Parameters
    ----------
    fold_of : the fold of each image, 0 … F-1; UNKNOWN for images that nothing may learn from (the
        sealed holdout, skipped ones): they get the mean over the F classifiers
    make : a fresh classifier for a seed

    Raises
    ------
    LabelError : a fold whose other folds hold no trusted label
    """
    n_classes, folds = len(transition), int(fold_of.max()) + 1
    belief = np.zeros((len(features), n_classes))
    outside = fold_of == UNKNOWN
    for fold in range(folds):
        learn = (fold_of != fold) & ~outside
        classifier = fit_joint(features, given, trusted, transition, learn, make, options)
        mine = np.flatnonzero(fold_of == fold)
        belief[mine] = predict_all(classifier, features[mine], n_classes)
        if outside.any():
            rows = np.flatnonzero(outside)
            belief[rows] += predict_all(classifier, features[rows], n_classes) / folds
        progress("believe", fold + 1, folds)
    return belief


def fit_joint(
    features: Matrix,
    given: Labels,
    trusted: Labels,
    transition: Transition,
    learn: Mask,
    make: MakeClassifier,
    options: CrossFit,
) -> Any:
    """A classifier fitted by EM to the trusted and noisy labels of the rows where ``learn``."""
    n_classes = len(transition)
    sure = np.flatnonzero(learn & (trusted != UNKNOWN))
    noisy = np.flatnonzero(learn & (trusted == UNKNOWN) & (given != UNKNOWN))
    if len(np.unique(trusted[sure])) < 2:
        raise LabelError(
            f"expected trusted labels of two classes or more to learn from, got {len(sure)} labels of "
            f"{len(np.unique(trusted[sure]))}; add trusted labels"
        )
    certain = np.eye(n_classes)[trusted[sure]]
    classifier = make(options.seed)
    fit_soft(classifier, features[sure], certain, np.ones(len(sure)))
    if len(noisy) == 0:
        return classifier
    rows = np.concatenate([sure, noisy])
    X, weight = features[rows], np.ones(len(rows))
    weight[: len(sure)] = options.trusted_weight
    for number in range(options.rounds):
        belief = predict_all(classifier, X[len(sure) :], n_classes)
        # Only the first belief is free of these labels; later ones keep its idea of their own sharpness.
        if number == 0:
            belief = calibrate_on_given(belief, given[noisy], transition).apply(belief)
        likely = posterior(given[noisy], belief, transition)
        classifier = make(options.seed + number + 1)
        fit_soft(classifier, X, np.concatenate([certain, likely]), weight)
    return classifier
