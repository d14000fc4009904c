"""What the notebook's networks share: rows to learn from, and a fit on the labels that are believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from assay.data.loader import load_together, spread
from assay.data.resize import TargetSize
from assay.embed.images import embed_images
from assay.errors import LabelError
from assay.evaluate import Stopwatch
from assay.notebook.sequential import Epoch, SequentialClassifier
from assay.notebook.task import Task
from assay.types import UNKNOWN, Backbone, Batch, Labels, Matrix

COMPARED = 128
"""Images that a network and its graph are compared on; the notebook's networks are slow."""


@dataclass
class TrainingData:
    """The images of a task as rows of numbers, the labels that may be learned from, and what it took."""

    task: Task
    X: Matrix
    """(N, D) memory map."""
    noisy: Labels
    """The noisy labels; UNKNOWN for images that are held out or cannot be used."""
    trusted: Labels
    """The trusted labels, likewise."""
    computed: int
    """Images whose features were not in the cache."""
    watch: Stopwatch
    history: list[Epoch] = field(default_factory=list)

    def fit(self, network: SequentialClassifier, labels: Labels, stage: str) -> SequentialClassifier:
        """A copy of ``network``, trained on the rows whose label is known.

        Raises
        ------
        LabelError : labels of fewer than two classes
        """
        rows = np.flatnonzero(labels != UNKNOWN)
        known = len(np.unique(labels[rows]))
        if known < 2:
            raise LabelError(f"{stage}: expected labels of two classes or more, got {len(rows)} of {known}")
        every_class = np.arange(len(self.task.dataset.classes))
        with self.watch.stage("train"):
            fitted: SequentialClassifier = clone(network).fit(
                self.X, labels, rows, every_class, self._progress(stage)
            )
        self.history += [replace(epoch, stage=stage) for epoch in fitted.history_]
        return fitted

    def scores(self, network: SequentialClassifier) -> Matrix:
        """Logits (N, K) of all images."""
        with self.watch.stage("predict"):
            return network.decision_scores(self.X)

    def count_kept(self, labels: Labels) -> dict[str, int]:
        """How many noisy labels are among ``labels``, and of how many they were chosen."""
        noisy = (self.trusted == UNKNOWN) & (self.noisy != UNKNOWN)
        return {"kept": int((labels[noisy] != UNKNOWN).sum()), "kept_of": int(noisy.sum())}

    def sample(self, backbone: Backbone) -> Batch:
        """Some of the images that may be learned from, as ``backbone`` sees them: to compare a graph on."""
        rows = spread(np.flatnonzero(self.task.learnable), COMPARED)
        target = TargetSize(backbone.size, backbone.interpolation)
        return load_together(self.task.dataset, target, rows).images[0]

    def _progress(self, stage: str) -> Any:
        return lambda _, done, total: self.task.progress(f"train, {stage}", done, total)


def prepare_training_data(task: Task, backbone: Backbone) -> TrainingData:
    """The features of every image, from the cache where they are known, and what may be learned."""
    watch = Stopwatch()
    with watch.stage("embed"):
        features = embed_images(
            task.dataset,
            backbone,
            task.options.cache,
            mirrored=False,
            workers=task.options.workers,
            progress=task.progress,
        )
    dataset = features.seen(task.dataset)
    labels = dataset.without(np.flatnonzero(~dataset.usable))  # the task hides the holdout's
    return TrainingData(
        task=replace(task, dataset=dataset),
        X=features.views[0],
        noisy=labels.noisy,
        trusted=labels.trusted,
        computed=features.computed,
        watch=watch,
    )


def facts_of(training_data: TrainingData, **more: Any) -> Mapping[str, Any]:
    """What every recipe says of itself."""
    return {
        "seed": training_data.task.seed,
        "published": training_data.task.published,
        "features_computed": training_data.computed,
        "skipped": len(training_data.task.dataset.skipped),
        **more,
    }
