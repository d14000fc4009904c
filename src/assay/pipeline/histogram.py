"""The notebook's baseline: colour histograms, logistic regression, noisy labels taken as true."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.data.dataset import Dataset
from assay.embed.histogram import HistogramBackbone
from assay.export.export import with_graph
from assay.notebook.search import search
from assay.notebook.task import Task, Trained
from assay.notebook.teaching import Lesson, facts_of, prepare_lesson
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.train.linear import check_two_classes, fit_logistic, logistic_layers
from assay.types import UNKNOWN, Labels, Mask, Matrix, Probs, Rows

GRID = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0, 100.0]}
"""What a search tries; 1 is scikit-learn's default, which the notebook has."""


@dataclass(frozen=True)
class Baseline:
    """The trained baseline and the features of all images."""

    model: Model
    features: Matrix

    def says(self, rows: Rows) -> Probs:
        """P(class) of the images at ``rows``."""
        return self.model.probabilities(self.features[rows])


def train_histogram(dataset: Dataset, learn: Mask, features: Matrix) -> Baseline:
    """Fit on the given labels of the rows where ``learn``; the notebook let it see the holdout too.

    Parameters
    ----------
    features : (N, 15), by a ``HistogramBackbone``
    """
    rows = np.flatnonzero(learn & (dataset.given != UNKNOWN))
    head = fit_logistic(features[rows], dataset.given[rows], len(dataset.classes))
    facts = {"recipe": "histogram", "rows": len(rows)}
    return Baseline(_model(dataset, HistogramBackbone(), head, facts), features)


def histogram(task: Task) -> Trained:
    """The baseline on shares of pixels, of images that are not held out, trained until it converges.

    As published: counts of pixels, scikit-learn's defaults, which stop before that, and the noisy labels
    of all images, the held-out ones too.
    """
    backbone = HistogramBackbone()
    lesson = prepare_lesson(task, backbone)
    if task.published:
        head, found = _as_published(lesson, backbone.size**2)
    else:
        head, found = _as_intended(lesson)
    facts = facts_of(lesson, recipe="histogram", **found)
    with lesson.watch.stage("export"):
        model = with_graph(_model(task.dataset, backbone, head, facts), None, lesson.sample(backbone))
    return Trained(model, seconds=lesson.watch.seconds)


def _as_intended(lesson: Lesson) -> tuple[Layers, dict[str, Any]]:
    task, facts, C = lesson.task, {}, 1.0
    if task.search:
        simple = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=task.seed))
        with lesson.watch.stage("search"):
            best, found = search(simple, GRID, lesson.X.astype(np.float64), lesson.trusted, task)
        C, facts = best["logisticregression__C"], {"search": found}
    rows = np.flatnonzero(lesson.given != UNKNOWN)
    with lesson.watch.stage("train"):
        n_classes = len(task.dataset.classes)
        head = fit_logistic(lesson.X[rows], lesson.given[rows], n_classes, C=C)
    return head, {**facts, "rows": len(rows)}


def _as_published(lesson: Lesson, pixels: int) -> tuple[Layers, dict[str, Any]]:
    task = lesson.task
    given: Labels = np.where(task.dataset.usable, task.given_all, UNKNOWN)
    rows = np.flatnonzero(given != UNKNOWN)
    check_two_classes(given[rows])
    counts = lesson.X[rows].astype(np.float64) * pixels
    with lesson.watch.stage("train"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in the facts instead
        fitted = LogisticRegression(random_state=0).fit(counts, given[rows])
    width = counts.shape[1]
    as_counts = np.zeros(width, dtype=np.float32), np.full(width, 1 / pixels, dtype=np.float32)
    head = logistic_layers(fitted, len(task.dataset.classes), *as_counts)
    converged = bool((fitted.n_iter_ < fitted.max_iter).all())
    return head, {"rows": len(rows), "converged": converged, "saw_holdout": bool(task.held[rows].any())}


def _model(dataset: Dataset, backbone: HistogramBackbone, head: Layers, facts: Mapping[str, Any]) -> Model:
    return Model(backbone.name, backbone.size, dataset.classes, head, titles=dataset.titles, facts=facts)
