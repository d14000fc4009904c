"""The notebook's baseline as a system of the comparison."""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.embed.histogram import HistogramBackbone
from assay.export.export import with_graph
from assay.notebook.search import search
from assay.notebook.task import Task, Trained
from assay.notebook.teaching import TrainingData, facts_of, prepare_training_data
from assay.pipeline.learn import histogram_model
from assay.predict.layers import Layers
from assay.train.linear import check_two_classes, fit_logistic, logistic_layers
from assay.types import UNKNOWN, Labels

GRID = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0, 100.0]}
"""What a search tries; 1 is scikit-learn's default, which the notebook has."""


def histogram(task: Task) -> Trained:
    """The baseline on shares of pixels, of images that are not held out, trained until it converges.

    As published: counts of pixels, scikit-learn's defaults, which stop before that, and the noisy labels
    of all images, the held-out ones too.
    """
    backbone = HistogramBackbone()
    training_data = prepare_training_data(task, backbone)
    if task.published:
        head, found = _as_published(training_data, backbone.size**2)
    else:
        head, found = _as_intended(training_data)
    facts = facts_of(training_data, system="histogram", **found)
    with training_data.watch.stage("export"):
        model = with_graph(
            histogram_model(task.dataset, backbone, head, facts), None, training_data.sample(backbone)
        )
    return Trained(model, seconds=training_data.watch.seconds)


def _as_intended(training_data: TrainingData) -> tuple[Layers, dict[str, Any]]:
    task, facts, C = training_data.task, {}, 1.0
    if task.search:
        simple = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=task.seed))
        with training_data.watch.stage("search"):
            best, found = search(
                simple, GRID, training_data.X.astype(np.float64), training_data.trusted, task
            )
        C, facts = best["logisticregression__C"], {"search": found}
    rows = np.flatnonzero(training_data.noisy != UNKNOWN)
    with training_data.watch.stage("train"):
        n_classes = len(task.dataset.classes)
        head = fit_logistic(training_data.X[rows], training_data.noisy[rows], n_classes, C=C)
    return head, {**facts, "rows": len(rows)}


def _as_published(training_data: TrainingData, pixels: int) -> tuple[Layers, dict[str, Any]]:
    task = training_data.task
    noisy: Labels = np.where(task.dataset.usable, task.noisy_all, UNKNOWN)
    rows = np.flatnonzero(noisy != UNKNOWN)
    check_two_classes(noisy[rows])
    counts = training_data.X[rows].astype(np.float64) * pixels
    with training_data.watch.stage("train"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in the facts instead
        fitted = LogisticRegression(random_state=0).fit(counts, noisy[rows])
    width = counts.shape[1]
    as_counts = np.zeros(width, dtype=np.float32), np.full(width, 1 / pixels, dtype=np.float32)
    head = logistic_layers(fitted, len(task.dataset.classes), *as_counts)
    converged = bool((fitted.n_iter_ < fitted.max_iter).all())
    return head, {"rows": len(rows), "converged": converged, "saw_holdout": bool(task.held[rows].any())}
