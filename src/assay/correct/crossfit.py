"""Cross-fitting: P(true | image) for every image, from a classifier that never saw that image.

An image may come in several views, such as itself and its mirror: each is a training row of its own, and the
prediction of an image is the mean over its views.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from assay.correct.posterior import LogProbs, calibrate_on_noisy, combine
from assay.errors import LabelError
from assay.types import UNKNOWN, Labels, Mask, Matrix, Probs, Progress, Rows, same_length, silent

MakeClassifier = Callable[[int], Any]
"""seed -> an unfitted classifier."""

# A class less probable than this is not worth a copy of the row: there are at most 100 copies.
MIN_SHARE = 0.01

# Shared by all classes where a classifier was fitted without some of them.
UNSEEN = 0.01


@dataclass(frozen=True)
class TrainingData:
    """Features and labels to train on."""

    views: tuple[Matrix, ...]
    """Features (N, D) of each view of the N images."""
    trusted: Labels
    """The trusted label; UNKNOWN for most. Where it is known, the noisy one is not trained on."""
    evidence: LogProbs
    """Log P(noisy label of the image | true) (N, K); zeros where there is none. See ``log_evidence``."""

    def __post_init__(self) -> None:
        views = {f"views[{number}]": view for number, view in enumerate(self.views)}
        same_length(evidence=self.evidence, trusted=self.trusted, **views)


@dataclass(frozen=True)
class CrossFitted:
    """Out-of-fold predictions, and the classifier that they are honest figures of."""

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
    data: TrainingData,
    fold_of: Labels,
    make: MakeClassifier,
    *,
    rounds: int = 1,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
) -> CrossFitted:
    """Fit a classifier without each fold in turn, and one with all of them.

    Parameters
    ----------
    fold_of : the fold of each image, 0 … F-1; UNKNOWN for images that are never trained on (the holdout,
        skipped ones): they get the mean over the F classifiers
    make : a fresh classifier for a seed
    rounds : EM rounds on the noisy labels; 0 ignores them
    workers : classifiers fitted at the same time, in threads; the result does not depend on it

    Raises
    ------
    LabelError : a fold whose other folds hold trusted labels of fewer than two classes
    """
    folds = int(fold_of.max(initial=UNKNOWN)) + 1
    if folds < 2:
        raise ValueError(f"fold_of: expected folds 0, 1 and so on, got {folds} of them")
    n_classes, inside = data.evidence.shape[1], fold_of != UNKNOWN
    views = tuple(np.zeros((len(fold_of), n_classes)) for _ in data.views)

    def fit_without(fold: int) -> Any:
        return fit_joint(data, inside & (fold_of != fold), make, rounds=rounds, seed=seed)

    with ThreadPoolExecutor(workers) as pool:
        # No image of a fold is UNKNOWN, so the first classifier leaves out nothing: the one that is kept.
        fitted = pool.map(fit_without, [UNKNOWN, *range(folds)])
        everything = next(fitted)
        for fold, classifier in enumerate(fitted):
            rows = np.flatnonzero((fold_of == fold) | ~inside)
            for view, probs in zip(data.views, views, strict=True):
                probs[rows] += predict_all(classifier, view[rows], n_classes)
            progress("cross-fit", fold + 1, folds)
    for probs in views:
        probs[~inside] /= folds
    return CrossFitted(views, everything)


def fit_joint(
    data: TrainingData, train: Mask, make: MakeClassifier, *, rounds: int = 1, seed: int = 0
) -> Any:
    """A classifier fitted to the trusted and noisy labels of the rows where ``train``.

    EM on the joint likelihood ``Σ_trusted log p(true) + Σ_noisy log Σ_y p(y) · P(noisy | y)``, whose second
    term is Gold Loss Correction (Hendrycks et al. 2018): fit on the trusted labels; then in turn compute the
    posterior of the others and fit on it.
    """
    views, trusted, n_classes = data.views, data.trusted, data.evidence.shape[1]
    sure = np.flatnonzero(train & (trusted != UNKNOWN))
    noisy_rows = np.flatnonzero(train & (trusted == UNKNOWN) & data.evidence.any(axis=1))
    known = len(np.unique(trusted[sure]))
    if known < 2:
        raise LabelError(
            "expected trusted labels of two classes or more in each part to learn from, "
            f"got {len(sure)} of {known}; add trusted labels"
        )

    def fit(seed: int, rows: Rows, targets: Probs) -> Any:
        classifier = make(seed)
        X = np.concatenate([view[rows] for view in views])
        fit_soft(classifier, X, np.tile(targets, (len(views), 1)))
        return classifier

    certain, both = np.eye(n_classes)[trusted[sure]], np.concatenate([sure, noisy_rows])
    classifier = fit(seed, sure, certain)
    for number in range(rounds if len(noisy_rows) else 0):
        pred_probs = mean_pred_probs(classifier, [view[noisy_rows] for view in views], n_classes)
        if number == 0:
            # Only the first prediction is free of these labels; later ones keep their own temperature.
            pred_probs = calibrate_on_noisy(pred_probs, data.evidence[noisy_rows]).apply(pred_probs)
        likely = combine(pred_probs, data.evidence[noisy_rows])
        classifier = fit(seed + number + 1, both, np.concatenate([certain, likely]))
    return classifier


def mean_pred_probs(classifier: Any, views: Sequence[Matrix], n_classes: int) -> Probs:
    """P(true | image) (N, K): the mean of the predictions of each view."""
    mean: Probs = np.mean([predict_all(classifier, view, n_classes) for view in views], axis=0)
    return mean


def fit_soft(classifier: Any, X: Matrix, targets: Probs) -> None:
    """Fit ``classifier`` to soft targets (N, K), in the best way that it allows.

    Directly if it has ``fit_soft``. Else, if it takes sample weights, on a copy of the row for each class,
    weighted by its probability: the same loss for every classifier whose loss is a weighted sum over rows.
    Else on the most probable class of each row (classification EM, Celeux & Govaert 1992).
    """
    if hasattr(classifier, "fit_soft"):
        classifier.fit_soft(X, targets)
        return
    likeliest, name = targets.argmax(axis=1), weight_name(classifier)
    if name is None:
        classifier.fit(X, likeliest)
        return
    worth = targets >= MIN_SHARE
    # The most probable class always stays: among hundreds of classes each one may be below MIN_SHARE.
    worth[np.arange(len(targets)), likeliest] = True
    kept = np.where(worth, targets, 0.0)
    kept /= kept.sum(axis=1, keepdims=True)  # all copies of a row weigh as much as one row
    rows, classes = np.nonzero(kept)
    classifier.fit(X[rows], classes, **{name: kept[rows, classes]})


def weight_name(classifier: Any) -> str | None:
    """The name of the sample weights in ``fit``, for a pipeline those of its last step; None without any."""
    if isinstance(classifier, Pipeline):
        step, last = classifier.steps[-1]
        inner = weight_name(last)
        return f"{step}__{inner}" if inner else None
    return "sample_weight" if has_fit_parameter(classifier, "sample_weight") else None


def predict_all(classifier: Any, X: Matrix, n_classes: int) -> Probs:
    """P(class) (N, K) for all K classes, also those that the classifier was fitted without."""
    found = np.asarray(classifier.predict_proba(X), dtype=np.float64)
    # Some give NaN, infinity or no probability at all for numbers that are far apart.
    bad = np.flatnonzero(~(np.isfinite(found).all(axis=1) & (found.sum(axis=1) > 0)))
    if bad.size:
        raise ValueError(
            f"expected probabilities of {type(classifier).__name__}, got {found[bad[0]].tolist()} for row "
            f"{bad[0]} and {len(bad) - 1:,} more; scale the features, or take another classifier"
        )
    fitted = np.asarray(classifier.classes_, dtype=np.int64)
    probs = np.zeros((len(found), n_classes))
    probs[:, fitted] = found
    if len(fitted) < n_classes:
        # Never zero: a noisy label must be able to show a class without trusted images.
        probs = (1 - UNSEEN) * probs + UNSEEN / n_classes
    shares: Probs = probs / probs.sum(axis=1, keepdims=True)
    return shares
