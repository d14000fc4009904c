"""Preset ``fast``: frozen features, out-of-fold probabilities, corrected labels, and a head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from assay.correct.annotators import AnnotatedLabels
from assay.correct.evidence import LabelEvidence, NoisyLabels
from assay.correct.near_duplicates import standardise
from assay.correct.outliers import FEWEST, Outliers, OutlierScorer, find_outliers, fit_scorer
from assay.correct.posterior import NO_FLOOR, Calibration, calibrate, first_calibration, other_folds
from assay.correct.result import CorrectedLabels, correct_labels
from assay.data.dataset import Annotations, Dataset
from assay.embed.device import one_thread_each
from assay.embed.images import Features
from assay.embed.tiny import HistogramBackbone
from assay.noise import Noise, Representative, check_representative
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.train.heads import fit_logistic, make_head
from assay.types import UNKNOWN, Groups, Labels, Mask, Matrix, Prior, Probs, Progress, Rows, silent


@dataclass(frozen=True)
class TrainingLabels:
    """What may be learned from: features and labels, the holdout's trusted labels masked."""

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
    """``trusted`` with the decisions of a review, which are trained on. They are no random choice of images:
    noise, calibration and all figures rest on ``trusted`` alone. None if there are no decisions."""
    all_noisy: Labels | None = None
    """The noisy labels with the holdout's, for its posterior alone; None if nothing is held out."""
    annotations: Annotations | None = None
    """The labels of several annotators, with the holdout's; None where an image has one noisy label."""
    groups: Groups | None = None
    """See ``Dataset.groups``."""
    no_class: Mask | None = None
    """True where a person decided that the image belongs to no class: it has no fold. None if nowhere."""
    balanced: bool = False
    """See ``RunOptions``."""

    @property
    def labels(self) -> LabelEvidence:
        """The noisy labels, and how they err."""
        noisy = self.noisy if self.all_noisy is None else self.all_noisy
        if self.annotations is not None:
            return AnnotatedLabels(self.annotations, noisy, self.fold_of != UNKNOWN)
        return NoisyLabels(noisy, None if self.all_noisy is None else self.fold_of != UNKNOWN)


@dataclass(frozen=True)
class Fitted:
    """The head, and the evidence for it."""

    head: Layers
    """Calibrated; for the features of an image as it is."""
    noise: Noise
    representative: Representative
    corrected: CorrectedLabels
    prior: Prior
    """P(class) that the head predicts by: of the images that it was fitted to, or uniform if balanced."""
    unseen: Probs
    """P(class | image) (N, K) of the head, calibrated, out of fold, for the cross-validated figures. With
    ``validation`` from this very model, unbiased for those rows alone, each half calibrated on the other."""
    probs_of: Callable[[Rows], Probs]
    """P(class) at rows that were not trained on, at least the holdout's, as the saved model predicts them."""
    out_of_fold: Probs
    """P(true | image) (N, K) by heads that saw no label of the image, also where a network was fine-tuned
    later: its own predictions know the noisy label."""
    validation: Rows | None = None
    """Trusted images kept out of training to measure a fine-tuned model; None where folds do that."""
    scorer: OutlierScorer | None = None
    """Of the saved model's features; None with too few labels, and where its network was fine-tuned."""
    flip_tta_below: float = 0.0
    """Of the saved model, see ``predict.runtime``; 0 for a model without test-time augmentation."""


@dataclass(frozen=True)
class Baseline:
    """What the model is compared with on the holdout."""

    name: str
    """A key of ``shown.TITLES``."""
    probs_of: Callable[[Rows], Probs]
    """P(class) at some rows."""


def learn(data: TrainingLabels, *, progress: Progress = silent) -> Fitted:
    """Estimate the noise, predict out of fold, correct the labels, train the head."""
    views = data.features.views
    with one_thread_each():  # heads are fitted side by side
        found = correct_labels(
            views,
            data.labels,
            data.trusted,
            data.fold_of,
            make_head,
            classes=data.classes,
            known=data.known,
            usable=data.usable,
            groups=data.groups,
            seed=data.seed,
            workers=data.workers,
            threshold=data.threshold,
            progress=progress,
        )
    # The mean over image and mirror corrects the labels; the saved model sees the image alone, at half the
    # cost. It is calibrated by all trusted labels, what is measured by those of the other folds.
    plain = found.fitted.views[0]
    guess = first_calibration(plain, data.fold_of, data.labels, NO_FLOOR)
    plain = guess.apply(plain)
    fit_model, prior = calibration_of(data, found.corrected)
    calibration = fit_model(plain, data.trusted)
    unseen = calibration.apply(plain)
    for rows, others in other_folds(data.trusted, data.fold_of):
        unseen[rows] = fit_model(plain, others).apply(plain[rows])
    trained: Layers = found.fitted.classifier.layers_
    whole = guess.then(calibration)
    head = trained.calibrated(whole.inverse_temperature, whole.bias)
    fit = data.fold_of != UNKNOWN
    return Fitted(
        head=head,
        noise=found.noise,
        representative=check_representative(
            views[0],
            data.noisy,
            data.trusted,
            rows=fit,
            classes=data.classes,
            seed=data.seed,
            groups=data.groups,
        ),
        corrected=replace(
            found.corrected, outliers=_find_outliers(data, found.corrected), no_class=data.no_class
        ),
        prior=prior,
        unseen=unseen,
        probs_of=lambda rows: head.probabilities(views[0][rows]),
        out_of_fold=found.corrected.pred_probs,
        scorer=fit_scorer(views[0], _who_belong(data, found.corrected), unseen.max(axis=1), seed=data.seed),
    )


def _settled(data: TrainingLabels, corrected: CorrectedLabels) -> Labels:
    """The labels to rely on; UNKNOWN elsewhere, also where a person says that no class is right."""
    labels = np.where(corrected.confidence >= corrected.threshold, corrected.corrected, UNKNOWN)
    if data.no_class is not None:
        labels[data.no_class] = UNKNOWN
    return labels


def _who_belong(data: TrainingLabels, corrected: CorrectedLabels) -> Labels:
    """The trusted labels; where they are too few to measure distances, the settled ones too."""
    few = np.sum(data.trusted != UNKNOWN) < 2 * FEWEST
    return _settled(data, corrected) if few else data.trusted


def _find_outliers(data: TrainingLabels, corrected: CorrectedLabels) -> Outliers | None:
    rows, views = np.flatnonzero(data.usable), data.features.views
    found = find_outliers(
        standardise(views if len(rows) == len(data.usable) else [view[rows] for view in views]),
        data.trusted[rows] != UNKNOWN,  # not those that a person decided, who was shown the doubtful ones
        labels=_settled(data, corrected)[rows],
        top_probs=corrected.pred_probs[rows].max(axis=1),
        seed=data.seed,
    )
    return None if found is None else found.among(len(data.usable), rows)


def calibration_of(
    data: TrainingLabels, corrected: CorrectedLabels
) -> tuple[Callable[[Probs, Labels], Calibration], Prior]:
    """(predictions, trusted labels) -> the calibration of the saved model, and the prior it predicts by.

    Without a floor, as a head has none.
    """
    prior = corrected.prior(np.flatnonzero(data.fold_of != UNKNOWN))
    if not data.balanced:
        return lambda probs, trusted: calibrate(probs, trusted, NO_FLOOR), prior
    uniform = np.full_like(prior, 1 / len(prior))
    return lambda probs, trusted: calibrate(probs, trusted, NO_FLOOR).balanced(prior), uniform


def noisy_only(views: tuple[Matrix, ...], noisy: Labels, n_classes: int, seed: int) -> Layers:
    """The same head with the noisy labels taken as true, for comparison."""
    rows = np.flatnonzero(noisy != UNKNOWN)
    targets = np.tile(np.eye(n_classes)[noisy[rows]], (len(views), 1))
    return make_head(seed).fit_soft(np.concatenate([view[rows] for view in views]), targets).layers_


def train_baseline(dataset: Dataset, rows: Rows, features: Features, seed: int) -> Baseline:
    """What a model without trusted labels predicts: the notebook's of colour histograms, or, where there are
    no pixels, the same head on the same features with noisy labels taken as true.

    Parameters
    ----------
    rows : images to train on, as far as they have a noisy label
    """
    if dataset.vectors is None:
        (histograms,) = features.beside
        model = train_histogram(dataset, rows, histograms)
        return Baseline("histogram", lambda some: model.probabilities(histograms[some]))
    noisy = np.full_like(dataset.noisy, UNKNOWN)
    noisy[rows] = dataset.noisy[rows]
    head = noisy_only(features.views, noisy, len(dataset.classes), seed)
    return Baseline("noisy_only", lambda some: head.probabilities(features.views[0][some]))


def train_histogram(dataset: Dataset, rows: Rows, features: Matrix) -> Model:
    """The notebook's baseline: colour histograms, logistic regression, noisy labels taken as true.

    Parameters
    ----------
    rows : images to train on, as far as they have a noisy label
    features : (N, 15), by a ``HistogramBackbone``
    """
    rows = rows[dataset.noisy[rows] != UNKNOWN]  # trusted labels are not used, as in the notebook
    head = fit_logistic(features[rows], dataset.noisy[rows], len(dataset.classes))
    return histogram_model(dataset, HistogramBackbone(), head, {"system": "histogram", "rows": len(rows)})


def histogram_model(
    dataset: Dataset, backbone: HistogramBackbone, head: Layers, facts: Mapping[str, object]
) -> Model:
    """The model of a head on colour histograms."""
    return Model(backbone.name, backbone.size, dataset.classes, head, titles=dataset.titles, facts=facts)
