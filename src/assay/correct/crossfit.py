"""Cross-fitting: P(true | image) for every image, from a classifier that never saw that image.

An image may come in several views, such as itself and its mirror: each is a training row of its own, and the
prediction of an image is the mean over its views.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from assay.correct.evidence import LabelEvidence, LogProbs
from assay.correct.posterior import calibrate_on_noisy, combine, weigh
from assay.errors import LabelError
from assay.types import UNKNOWN, Labels, Matrix, Probs, Progress, Rows, same_length, silent

MakeClassifier = Callable[[int], Any]
"""seed -> an unfitted classifier."""

# A class less probable than this is not worth a copy of the row: there are at most 100 copies.
MIN_SHARE = 0.01

FEWEST_FOLDS = 3
"""One is predicted, and two at least are fitted to, each by what was fitted without it."""

AT_ONCE = 4_096  # images whose features are held as float32

# Shared by all classes where a classifier was fitted without some of them.
UNSEEN = 0.01


@dataclass(frozen=True)
class TrainingData:
    """Features and labels to train on."""

    views: tuple[Matrix, ...]
    """Features (N, D) of each view of the N images."""
    labels: LabelEvidence
    """The noisy labels of the N images."""
    trusted: Labels
    """The trusted label; UNKNOWN for most, or all. Where it is known, the noisy one is not trained on."""
    n_classes: int

    def __post_init__(self) -> None:
        views = {f"views[{number}]": view for number, view in enumerate(self.views)}
        same_length(noisy=self.labels.noisy, trusted=self.trusted, **views)


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
    workers : classifiers fitted at the same time, in threads; the result does not depend on it

    Raises
    ------
    LabelError : a fold whose other folds hold labels of fewer than two classes
    """
    n_folds, inside = int(fold_of.max(initial=UNKNOWN)) + 1, fold_of != UNKNOWN
    if n_folds < FEWEST_FOLDS:
        raise ValueError(f"fold_of: expected {FEWEST_FOLDS} folds or more, from 0 on, got {n_folds}")
    views = tuple(np.zeros((len(fold_of), data.n_classes)) for _ in data.views)
    start = LinearStart(data, fold_of)

    def fit_without(fold: int) -> Any:
        return fit_others(data, fold_of, fold, make, start=start, seed=seed)

    with ThreadPoolExecutor(workers) as pool:
        # No image has the fold UNKNOWN - 1: the first classifier leaves out nothing, and is kept.
        fitted = pool.map(fit_without, [UNKNOWN - 1, *range(n_folds)])
        everything = next(fitted)
        for fold, classifier in enumerate(fitted):
            rows = np.flatnonzero((fold_of == fold) | ~inside)
            for view, probs in zip(data.views, views, strict=True):
                probs[rows] += predict_all(classifier, view[rows], data.n_classes)
            progress("cross-fit", fold + 1, n_folds)
    for probs in views:
        probs[~inside] /= n_folds
    return CrossFitted(views, everything)


def fit_others(
    data: TrainingData,
    fold_of: Labels,
    without: int,
    make: MakeClassifier,
    *,
    start: "LinearStart | None" = None,
    seed: int = 0,
) -> Any:
    """A classifier fitted to the trusted and noisy labels of all folds but one.

    One step of EM: the posterior of each image, of a linear classifier that was fitted without the image's
    fold too, is what the classifier is fitted to. Networks that are fitted to the noisy labels themselves
    memorise them; a ridge regression of many images does not.
    """
    start = start or LinearStart(data, fold_of)
    rows = np.flatnonzero((fold_of != UNKNOWN) & (fold_of != without) & (start.labels != UNKNOWN))
    known = len(np.unique(start.labels[rows]))
    if known < 2:
        raise LabelError(
            "expected labels of two classes or more in each part to learn from, "
            f"got {len(rows)} of {known}; add labels of the other classes"
        )
    raw = np.zeros((len(fold_of), data.n_classes))
    for fold in np.unique(fold_of[rows]).tolist():
        inner = np.flatnonzero(fold_of == fold)
        raw[inner] = start.pred_probs(inner, {without, fold})
    trusted = data.trusted[rows]
    found = weigh(raw[rows], trusted, fold_of[rows], data.labels.at(rows))
    targets, sure = found.posterior, trusted != UNKNOWN

    def fit(some: Rows, targets: Probs) -> Any:
        classifier = make(seed)
        X = np.concatenate([view[some] for view in data.views])
        fit_soft(classifier, X, np.tile(targets, (len(data.views), 1)))
        return classifier

    certain = np.eye(data.n_classes)[trusted[sure]]
    if len(np.unique(trusted[sure])) > 1 and not sure.all():
        # A classifier of the trusted labels alone, or both together, may predict better: the noisy labels,
        # which neither was fitted to, choose.
        others, evidence = rows[~sure], found.evidence[~sure]
        views = [view[others] for view in data.views]
        rival = mean_pred_probs(fit(rows[sure], certain), views, data.n_classes)
        rival = calibrate_on_noisy(rival, evidence).apply(rival)
        both = np.sqrt(rival * found.pred_probs[~sure])
        both /= both.sum(axis=1, keepdims=True)
        both = calibrate_on_noisy(both, evidence).apply(both)
        best = max(found.pred_probs[~sure], rival, both, key=lambda probs: explained(probs, evidence))
        targets[~sure] = combine(best, evidence, found.strength)
    targets[sure] = certain
    return fit(rows, targets)


def explained(pred_probs: Probs, evidence: LogProbs) -> float:
    """Mean log P(noisy label | image), but for a constant."""
    return float(np.log((pred_probs * np.exp(evidence)).sum(axis=1)).mean())


class LinearStart:
    """Ridge regression on the labels as they came, the trusted one where there is one, without any folds.

    It is solved from sums over the images of each fold, so that leaving out folds costs nothing more.
    Of ridges of 0.01 to 1.3 parts for each image, on features of unit variance, the largest were best.
    """

    def __init__(self, data: TrainingData, fold_of: Labels) -> None:
        self.labels: Labels = np.where(data.trusted != UNKNOWN, data.trusted, data.labels.noisy)
        self._views, self._n_classes = data.views, data.n_classes
        self._scaler = StandardScaler()
        for some in _parts(np.flatnonzero(fold_of != UNKNOWN)):
            self._scaler.partial_fit(self._mean_view(some))
        self._sums = []
        for fold in range(int(fold_of.max()) + 1):
            rows = np.flatnonzero((fold_of == fold) & (self.labels != UNKNOWN))
            width = data.views[0].shape[1] + 1
            squares, products = np.zeros((width, width)), np.zeros((width, data.n_classes))
            for some in _parts(rows):
                X = self._standardised(some)
                squares += X.T @ X
                products += X.T @ np.eye(data.n_classes, dtype=np.float32)[self.labels[some]]
            self._sums.append((len(rows), squares, products))

    def pred_probs(self, rows: Rows, without: Collection[int]) -> Probs:
        """P(label | image) (R, K) from the images of all folds but these."""
        sums = [found for fold, found in enumerate(self._sums) if fold not in without]
        n, squares, products = (sum(parts) for parts in zip(*sums, strict=True))
        ridge = np.full(len(squares), float(n))
        ridge[-1] = 1e-6  # the share of each class is not shrunk
        weights = np.linalg.solve(squares + np.diag(ridge), products).astype(np.float32)
        scores = np.concatenate([self._standardised(some) @ weights for some in _parts(rows)])
        scores = np.maximum(scores.astype(np.float64), MIN_SHARE / self._n_classes)
        probs: Probs = scores / scores.sum(axis=1, keepdims=True)
        return probs

    def _mean_view(self, rows: Rows) -> Float[np.ndarray, "R D"]:
        mean: Matrix = np.mean([np.asarray(view[rows], dtype=np.float32) for view in self._views], axis=0)
        return mean

    def _standardised(self, rows: Rows) -> Float[np.ndarray, "R E"]:
        """With a column of ones; a missing feature, which some classifiers take, counts as the average."""
        X = np.nan_to_num(self._scaler.transform(self._mean_view(rows)))
        return np.column_stack([X, np.ones(len(rows), dtype=np.float32)])


def _parts(rows: Rows) -> list[Rows]:
    """The rows in parts whose features fit into memory."""
    return np.array_split(rows, 1 + len(rows) // AT_ONCE)


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
