"""CNN 1 and CNN 2: the notebook's small convolutional networks, learned from pixels.

CNN 1 trusts the noisy labels. CNN 2 learns from the trusted ones, keeps the noisy labels that it then
agrees with, and starts again on both together.
"""

from math import isqrt
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from assay.embed.pixels import PixelBackbone
from assay.export.export import with_graph
from assay.notebook.agreement import agreed_labels
from assay.notebook.dense import dense_layers
from assay.notebook.rounded import with_rounded_scores
from assay.notebook.search import Grid, searched
from assay.notebook.sequential import SequentialClassifier
from assay.notebook.task import Task, Trained
from assay.notebook.teaching import TrainingData, facts_of, prepare_training_data
from assay.predict.model import Model

SIZE = 32
"""Side in pixels of the images."""

GRID: Grid = {"build__dense": [64, 128], "learning_rate": [1e-3, 3e-4], "epochs": [5, 10]}
"""What a search tries; the notebook chose 64, 1e-3 and 10."""


class Cnn(BaseEstimator):
    """The layers, in order; all convolutions see 3 by 3 pixels."""

    def __init__(self, dense: int = 64, batch_norm: bool = False) -> None:
        self.dense = dense
        self.batch_norm = batch_norm

    def __call__(self, n_features: int, n_classes: int) -> Any:
        """An untrained network from rows of pixels to logits."""
        from torch import nn

        from assay.notebook.train_sequential import Pixels

        side = isqrt(n_features // 3)
        flat = 64 * (side // 4) ** 2  # 64 maps, halved twice
        # The pool comes before the ReLU: it gives the very same numbers, at a quarter of the work.
        return nn.Sequential(
            Pixels(side),
            nn.Conv2d(3, 32, 3, padding="same"),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding="same"),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding="same"),
            nn.ReLU(),
            nn.Flatten(),
            # Keras' epsilon and momentum, which torch counts from the other end.
            *([nn.BatchNorm1d(flat, eps=1e-3, momentum=0.01)] if self.batch_norm else []),
            nn.Linear(flat, self.dense),
            nn.ReLU(),
            nn.Linear(self.dense, n_classes),
        )


def compiled(task: Task, layers: Cnn) -> SequentialClassifier:
    """The network with the notebook's settings: Adam, batches of 32, 10 epochs."""
    return SequentialClassifier(
        layers,
        epochs=10,
        batch_size=32,
        learning_rate=1e-3,
        dtype=task.options.dtype,
        random_state=task.seed,
    )


def cnn_1(task: Task) -> Trained:
    """CNN 1: the noisy labels of all images that are not held out, taken as true."""
    training_data = prepare_training_data(task, PixelBackbone(SIZE))
    network, facts = searched(training_data, compiled(task, Cnn()), GRID)
    fitted = training_data.fit(network, training_data.noisy, "noisy")
    return _trained(training_data, fitted, "cnn-1", facts)


def cnn_2(task: Task) -> Trained:
    """CNN 2: trusted labels, then trusted labels and the noisy ones that agree with what was learned.

    As published, both networks round their logits to whole numbers before the best one is taken.
    """
    training_data = prepare_training_data(task, PixelBackbone(SIZE))
    network, facts = searched(training_data, compiled(task, Cnn(batch_norm=True)), GRID)
    first = training_data.fit(network, training_data.trusted, "trusted")
    scores = training_data.scores(first)
    predicted = (np.round(scores) if task.published else scores).argmax(axis=1)
    labels = agreed_labels(training_data.noisy, training_data.trusted, predicted)
    second = training_data.fit(network.set_params(random_state=task.seed + 1), labels, "trusted and kept")
    kept = training_data.count_kept(labels)
    return _trained(training_data, second, "cnn-2", {**facts, **kept}, rounded=task.published)


def _trained(
    training_data: TrainingData,
    fitted: SequentialClassifier,
    system: str,
    facts: Any,
    *,
    rounded: bool = False,
) -> Trained:
    from torch import nn

    task, layers = training_data.task, list(fitted.network_)
    end = next(place for place, layer in enumerate(layers) if isinstance(layer, nn.Flatten)) + 1
    trunk = nn.Sequential(*layers[1:end])  # without Pixels: a trunk is given what they make
    facts = facts_of(training_data, system=system, **facts)
    model = Model(
        architecture="conv",
        size=SIZE,
        labels=task.dataset.classes,
        head=dense_layers(layers[end:]),
        titles=task.dataset.titles,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        backbone={name: tensor.numpy() for name, tensor in trunk.state_dict().items()},
        facts=facts,
        features="map",
    )
    with training_data.watch.stage("export"):
        model = with_graph(model, trunk, training_data.sample(PixelBackbone(SIZE)))
        if rounded:
            model = with_rounded_scores(model)
    return Trained(model, tuple(training_data.history), training_data.watch.seconds)
