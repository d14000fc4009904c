"""Model I and Model II: a head on the features of a frozen pretrained network.

The network never changes, so each image goes through it once, and the features are kept; the notebook
ran it in every epoch. Model I trusts the noisy labels; Model II filters them as CNN 2 does.
"""

from typing import Any

from sklearn.base import BaseEstimator

from assay.embed.backbone import FROM_ZERO_TO_ONE, TimmBackbone, load_backbone
from assay.export.export import with_graph
from assay.notebook.agreement import agreed_labels
from assay.notebook.dense import dense_layers
from assay.notebook.search import Grid, searched
from assay.notebook.sequential import SequentialClassifier
from assay.notebook.task import Task, Trained
from assay.notebook.teaching import TrainingData, facts_of, prepare_training_data
from assay.predict.model import Model
from assay.types import Backbone

BACKBONE = "tf_efficientnet_lite0"
SIZE = 128
"""Side in pixels: the notebook's 32, doubled twice."""

GRID: Grid = [
    {"learning_rate": [1e-4, 1e-3], "epochs": [6, 12], "build__dropout": [0.3, 0.5]},
    {"learning_rate": [1e-4, 1e-3], "epochs": [6, 12], "build__hidden": [(512, 256, 64)]},
]
"""What a search tries; the notebook chose 1e-4, 6, 0.3 and (1024, 512, 128)."""


class Head(BaseEstimator):
    """The layers, in order."""

    def __init__(self, hidden: tuple[int, int, int] = (1024, 512, 128), dropout: float = 0.3) -> None:
        self.hidden = hidden
        self.dropout = dropout

    def __call__(self, n_features: int, n_classes: int) -> Any:
        """An untrained network from features to logits."""
        from torch import nn

        first, second, third = self.hidden
        return nn.Sequential(
            nn.Linear(n_features, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(second, third),
            nn.ReLU(),
            nn.Linear(third, n_classes),
        )


def compiled(task: Task) -> SequentialClassifier:
    """The head with the notebook's settings: Adam at 1e-4, batches of 64, 6 epochs."""
    return SequentialClassifier(
        Head(),
        epochs=6,
        batch_size=64,
        learning_rate=1e-4,
        standardise=not task.published,
        dtype=task.options.dtype,
        random_state=task.seed,
    )


def frozen(task: Task) -> Backbone:
    """The pretrained network, as its weights were meant to be used, and images enlarged without sharpening.

    As published: images enlarged by repeating pixels, values in [0, 1] whatever the weights were trained
    with, and all places of the last map instead of means. Only ``tiny`` has nothing to choose.
    """
    name, options = task.backbone or BACKBONE, task.options
    choices: dict[str, Any] = {"interpolation": "bicubic"}
    if task.published:
        choices = {"features": "map", "interpolation": "nearest", "preprocessing": FROM_ZERO_TO_ONE}
    return load_backbone(
        name,
        options.cache,
        size=task.size or SIZE,
        # A local file holds the weights of the network that was named, not of the recipe's own.
        weights=options.weights if task.backbone else None,
        dtype=options.dtype,
        **(choices if name != "tiny" else {}),
    )


def model_1(task: Task) -> Trained:
    """Model I: the noisy labels of all images that are not held out, taken as true."""
    backbone = frozen(task)
    training_data = prepare_training_data(task, backbone)
    network, facts = searched(training_data, compiled(task), GRID)
    fitted = training_data.fit(network, training_data.noisy, "noisy")
    return _trained(training_data, backbone, fitted, "model-1", facts)


def model_2(task: Task) -> Trained:
    """Model II: trusted labels, then trusted labels and the noisy ones that agree with what was learned."""
    backbone = frozen(task)
    training_data = prepare_training_data(task, backbone)
    network, facts = searched(training_data, compiled(task), GRID)
    first = training_data.fit(network, training_data.trusted, "trusted")
    labels = agreed_labels(
        training_data.noisy, training_data.trusted, training_data.scores(first).argmax(axis=1)
    )
    second = training_data.fit(network.set_params(random_state=task.seed + 1), labels, "trusted and kept")
    return _trained(training_data, backbone, second, "model-2", {**facts, **training_data.count_kept(labels)})


def _trained(
    training_data: TrainingData, backbone: Backbone, fitted: SequentialClassifier, system: str, facts: Any
) -> Trained:
    task = training_data.task
    network: dict[str, Any] = {}
    trunk, origin = None, "built in"
    if isinstance(backbone, TimmBackbone):
        network = {"mean": backbone.mean, "std": backbone.std, "backbone": backbone.tensors()}
        network |= {"features": backbone.features, "interpolation": backbone.interpolation}
        trunk, origin = backbone.trunk(), backbone.origin
    chosen = {"backbone": backbone.name, "weights": origin, "size": backbone.size}
    facts = facts_of(training_data, system=system, **chosen, **facts)
    model = Model(
        architecture=backbone.name,
        size=backbone.size,
        labels=task.dataset.classes,
        head=dense_layers(fitted.network_, fitted.mean_, fitted.scale_),
        titles=task.dataset.titles,
        facts=facts,
        **network,
    )
    with training_data.watch.stage("export"):
        model = with_graph(model, trunk, training_data.sample(backbone))
    return Trained(model, tuple(training_data.history), training_data.watch.seconds)
