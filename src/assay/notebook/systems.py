"""The five systems of the notebook: each a function from a ``Task`` to a ``Trained`` model.

The baseline, CNN 1 and Model I take the noisy labels as true. CNN 2 and Model II train on the trusted labels,
keep the noisy labels that the result predicts, and train again on both. As published, each has those of the
notebook's defects that change results.
"""

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.data.dataset import Dataset
from assay.data.loader import load_together, spread
from assay.data.resize import TargetSize
from assay.data.write import make_folder, write_json, write_rows
from assay.embed.backbone import FROM_ZERO_TO_ONE, TimmBackbone, load_backbone
from assay.embed.device import one_thread_each
from assay.embed.images import embed_images
from assay.embed.tiny import HistogramBackbone
from assay.errors import LabelError
from assay.evaluate import Stopwatch
from assay.export.graph import with_graph
from assay.notebook.networks import Cnn, Epoch, Head, SequentialClassifier
from assay.pipeline.learn import histogram_model
from assay.pipeline.options import RunOptions
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.train.heads import fit_logistic, logistic_layers
from assay.types import UNKNOWN, Backbone, Batch, Labels, Mask, Matrix, Progress, same_length, silent

TITLES = {
    "histogram": "Baseline",
    "cnn-1": "CNN 1",
    "cnn-2": "CNN 2",
    "model-1": "Model I",
    "model-2": "Model II",
    "assay": "Assay",
}
"""Ids of systems, as flags, folders and JSON use them -> names for people: the notebook's, in its order."""

CNN_SIZE = 32
"""Side in pixels of the images of CNN 1 and CNN 2."""

BACKBONE, BACKBONE_SIZE = "tf_efficientnet_lite0", 128
"""Of Model I and Model II; the size is the notebook's 32, doubled twice."""

COMPARED = 128
"""Images that a network and its graph are compared on; the notebook's networks are slow."""

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]
"""Parameters of a classifier and the values to try, as for scikit-learn's ``ParameterGrid``."""

FOLDS = 3
"""Of the cross-validation of a search."""

HISTOGRAM_GRID: Grid = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0, 100.0]}
"""Values that ``--search`` tries; the notebook has 1, scikit-learn's default."""

CNN_GRID: Grid = {"build__dense": [64, 128], "learning_rate": [1e-3, 3e-4], "epochs": [5, 10]}
"""The same; the notebook chose 64, 1e-3 and 10."""

HEAD_GRID: Grid = [
    {"learning_rate": [1e-4, 1e-3], "epochs": [6, 12], "build__dropout": [0.3, 0.5]},
    {"learning_rate": [1e-4, 1e-3], "epochs": [6, 12], "build__hidden": [(512, 256, 64)]},
]
"""The same; the notebook chose 1e-4, 6, 0.3 and (1024, 512, 128)."""


@dataclass(frozen=True)
class Task:
    """A dataset without the labels of its holdout, and how to train on it."""

    dataset: Dataset
    """The holdout's labels, noisy and trusted, are UNKNOWN: nothing can leak."""
    held: Mask
    """True for the holdout images."""
    options: RunOptions
    """Seed, cache, workers, dtype."""
    noisy_all: Labels
    """The noisy labels with the holdout's: the published baseline trained on them too."""
    backbone: str | None = None
    """Of the systems that use one; None for the system's own."""
    size: int | None = None
    """Side in pixels of that backbone's images; None for the system's own."""
    published: bool = False
    """Whether to keep the notebook's defects that change results."""
    search: bool = False
    """Whether hyperparameters are chosen by cross-validation; else they are the notebook's."""
    folder: Path | None = None
    """For the scores of a search; None to keep none."""
    progress: Progress = silent


@dataclass(frozen=True)
class Trained:
    """A finished model, and the cost of it."""

    model: Model
    """With its graph."""
    history: tuple[Epoch, ...] = ()
    """Loss and accuracy by epoch; empty for a model that is not trained by epochs."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of each stage, such as ``embed`` and ``train``."""


System = Callable[[Task], Trained]


@dataclass(frozen=True)
class PixelBackbone:
    """The values 0 … 255 of an image as its features: row by row, red, green and blue beside each other.

    ``features.reshape(-1, size, size, 3)`` is the image again; float16, as the cache stores them, holds every
    whole number up to 2048.
    """

    size: int = CNN_SIZE
    name: str = field(default="pixels", init=False)
    interpolation: str = field(default="bicubic", init=False)

    @property
    def width(self) -> int:
        """Three numbers for each pixel."""
        return self.size * self.size * 3

    @property
    def digest(self) -> str:
        """Over what changes the features."""
        return hashlib.sha256(f"pixels-1-{self.size}".encode()).hexdigest()

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Pixels of a batch, float32."""
        return images.reshape(len(images), self.width).astype(np.float32)


@dataclass
class TrainingData:
    """The images of a task as features, and the labels that may be trained on."""

    task: Task
    X: Matrix
    """(N, D) memory map."""
    noisy: Labels
    """UNKNOWN for images of the holdout and for those that cannot be used."""
    trusted: Labels
    """Likewise."""
    computed: int
    """Images whose features were not in the cache."""
    watch: Stopwatch
    history: list[Epoch] = field(default_factory=list)

    def searched(self, classifier: Any, grid: Grid, X: Matrix) -> tuple[Any, dict[str, Any]]:
        """``classifier`` with the best settings of ``grid`` and facts about the search, if one is wanted."""
        task = self.task
        if not task.search:
            return classifier, {}
        with self.watch.stage("search"):
            best, facts = search(
                classifier,
                grid,
                X,
                self.trusted,
                seed=task.options.seed,
                workers=task.options.workers,
                folder=task.folder,
                progress=task.progress,
            )
        return clone(classifier).set_params(**best), {"search": facts}

    def fit(self, network: SequentialClassifier, labels: Labels, stage: str) -> SequentialClassifier:
        """A copy of ``network``, trained on the rows whose label is known."""
        rows = np.flatnonzero(labels != UNKNOWN)
        check_two_classes(labels[rows], f"{stage}: ")
        every_class = np.arange(len(self.task.dataset.classes))

        def progress(_: str, done: int, total: int) -> None:
            self.task.progress(f"train, {stage}", done, total)

        with self.watch.stage("train"):
            fitted: SequentialClassifier = clone(network).fit(self.X, labels, rows, every_class, progress)
        self.history += [replace(epoch, stage=stage) for epoch in fitted.history_]
        return fitted

    def fit_system(
        self, network: SequentialClassifier, grid: Grid, *, filtered: bool, rounded: bool = False
    ) -> tuple[SequentialClassifier, dict[str, Any]]:
        """Train on the noisy labels, or in two stages on the trusted and the kept ones; and facts about it.

        Parameters
        ----------
        filtered : train on the trusted labels, then anew on those and the noisy ones that the first predicts
        rounded : round the logits of the filter before the largest is taken
        """
        network, facts = self.searched(network, grid, self.X)
        if not filtered:
            return self.fit(network, self.noisy, "noisy"), facts
        first = self.fit(network, self.trusted, "trusted")
        with self.watch.stage("predict"):
            scores = first.decision_scores(self.X)
        predicted = (np.round(scores) if rounded else scores).argmax(axis=1)
        labels = agreed_labels(self.noisy, self.trusted, predicted)
        # Another seed: the second network starts from other weights and sees other batches.
        second = clone(network).set_params(random_state=self.task.options.seed + 1)
        return self.fit(second, labels, "trusted and kept"), {**facts, **self.count_kept(labels)}

    def count_kept(self, labels: Labels) -> dict[str, int]:
        """How many noisy labels are among ``labels``, and of how many they were chosen."""
        noisy = (self.trusted == UNKNOWN) & (self.noisy != UNKNOWN)
        return {"kept": int((labels[noisy] != UNKNOWN).sum()), "kept_of": int(noisy.sum())}

    def facts(self, **more: Any) -> dict[str, Any]:
        """Facts that every system's model carries, and more."""
        return {
            "seed": self.task.options.seed,
            "published": self.task.published,
            "features_computed": self.computed,
            "skipped": len(self.task.dataset.skipped),
            **more,
        }

    def export(self, model: Model, trunk: Any, backbone: Backbone, *, rounded: bool = False) -> Trained:
        """The model with its graph, which is compared with the network on some of the training images.

        Parameters
        ----------
        rounded : whether the graph rounds its scores before the softmax
        """
        task = self.task
        with self.watch.stage("export"):
            rows = spread(np.flatnonzero(task.dataset.usable & ~task.held), COMPARED)
            target = TargetSize(backbone.size, backbone.interpolation)
            images = load_together(task.dataset, target, rows).images[0]
            model = with_graph(model, trunk, images)
            if rounded:
                model = _with_rounded_scores(model)
        return Trained(model, tuple(self.history), self.watch.seconds)


def prepare_training_data(task: Task, backbone: Backbone) -> TrainingData:
    """The features of every image, from the cache where they are known, and the labels of the usable ones."""
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


def agreed_labels(noisy: Labels, trusted: Labels, predicted: Labels) -> Labels:
    """The trusted label where there is one, the noisy one where the prediction agrees, else UNKNOWN.

    The prediction should come from a model that was trained on trusted labels alone: one that was trained on
    a noisy label agrees with it too easily.
    """
    same_length(noisy=noisy, trusted=trusted, predicted=predicted)
    agreed: Labels = np.where(noisy == predicted, noisy, UNKNOWN)
    labels: Labels = np.where(trusted != UNKNOWN, trusted, agreed)
    return labels


def check_two_classes(labels: Labels, what: str = "") -> None:
    """LabelError for labels of fewer than two classes."""
    if (known := len(np.unique(labels))) < 2:
        raise LabelError(f"{what}expected labels of two classes or more, got {len(labels)} of {known}")


def _with_rounded_scores(model: Model) -> Model:
    import onnx
    from onnx import helper

    graph = onnx.load_model_from_string(model.graph)
    nodes = graph.graph.node
    softmax = nodes[-1]
    # ONNX rounds halves to even, as NumPy does in the filter.
    nodes.insert(len(nodes) - 1, helper.make_node("Round", [softmax.input[0]], ["assay-rounded"]))
    softmax.input[0] = "assay-rounded"
    rounded = graph.SerializeToString(deterministic=True)
    # The head itself stays as it was trained; the fact tells the two apart.
    return replace(model, graph=rounded, facts={**model.facts, "rounded": True})


def search(
    classifier: Any,
    grid: Grid,
    X: Matrix,
    trusted: Labels,
    *,
    seed: int = 0,
    workers: int = 1,
    folder: Path | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best parameters, by cross-validation on the trusted labels, and facts about the search.

    The notebook's hyperparameters "were chosen using grid search (not shown)". Here every score is kept in
    ``search.csv``, and the grid and the choice in ``search.json``.

    Parameters
    ----------
    classifier : with the notebook's settings, which must be in the grid
    workers : combinations tried at the same time
    folder : for the two files; None to keep none
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    fewest = np.unique(trusted[rows], return_counts=True)[1].min(initial=len(rows))
    if fewest < FOLDS:
        raise LabelError(
            f"--search: expected {FOLDS} or more trusted images of each class to train on, got {fewest} "
            "of one; add trusted labels, or leave --search out"
        )
    labels, rows_of_X = trusted[rows], X[rows]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    combinations = list(ParameterGrid(grid))
    settings = classifier.get_params()
    own = [{**settings, **parameters} == settings for parameters in combinations]
    if not any(own):
        raise ValueError("grid: expected the classifier's own settings among the combinations, got others")

    # One GridSearchCV for each combination, not one for all: progress, and the seconds of each.
    def attempt(parameters: Mapping[str, Any]) -> tuple[list[float], float]:
        start = time.perf_counter()
        one = {name: [value] for name, value in parameters.items()}
        found = GridSearchCV(classifier, one, scoring="accuracy", cv=folds, refit=False, error_score="raise")
        scores = found.fit(rows_of_X, labels).cv_results_
        of_folds = [float(scores[f"split{fold}_test_score"][0]) for fold in range(FOLDS)]
        return of_folds, time.perf_counter() - start

    tried = []
    with one_thread_each(), ThreadPoolExecutor(max(workers, 1)) as pool:
        for found in pool.map(attempt, combinations):
            tried.append(found)
            progress("search", len(tried), len(combinations))
    accuracy = [float(np.mean(scores)) for scores, _ in tried]
    best, notebook = int(np.argmax(accuracy)), own.index(True)  # argmax: the first of equals
    facts = {
        "scored_on": f"{FOLDS}-fold cross-validation on {len(rows):,} trusted images, none held out",
        "combinations": len(tried),
        "best": dict(combinations[best]),
        "best_accuracy": accuracy[best],
        "notebook": dict(combinations[notebook]),
        "notebook_accuracy": accuracy[notebook],
    }
    if folder is not None:
        make_folder(folder)
        names = sorted({name for parameters in combinations for name in parameters})
        values = [{**settings, **parameters} for parameters in combinations]
        columns = {
            **{name: [str(value[name]) for value in values] for name in names},
            "accuracy": [f"{share:.4f}" for share in accuracy],
            **{f"fold_{fold + 1}": [f"{scores[fold]:.4f}" for scores, _ in tried] for fold in range(FOLDS)},
            "seconds": [f"{seconds:.1f}" for _, seconds in tried],
            "notebook": ["yes" if place == notebook else "" for place in range(len(tried))],
        }
        write_rows(folder / "search.csv", tuple(columns), list(columns.values()))
        write_json(folder / "search.json", {**facts, "grid": grid})
    return dict(combinations[best]), facts


def histogram(task: Task) -> Trained:
    """The baseline: logistic regression on shares of pixels by colour, until it converges.

    As published: counts of pixels, scikit-learn's defaults, which stop before that, and the noisy labels of
    all images, those of the holdout too.
    """
    backbone = HistogramBackbone()
    data = prepare_training_data(task, backbone)
    n_classes = len(task.dataset.classes)
    facts: dict[str, Any]
    if task.published:
        # All noisy labels, those of the holdout too: a defect of the notebook.
        noisy: Labels = np.where(data.task.dataset.usable, task.noisy_all, UNKNOWN)
        rows = np.flatnonzero(noisy != UNKNOWN)
        check_two_classes(noisy[rows])
        pixels = backbone.size**2
        counts = data.X[rows].astype(np.float64) * pixels
        with data.watch.stage("train"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fact of the model instead
            fitted = LogisticRegression(random_state=0).fit(counts, noisy[rows])
        # The model's features are shares of pixels: its scale makes counts of them again.
        width = counts.shape[1]
        as_counts = np.zeros(width, dtype=np.float32), np.full(width, 1 / pixels, dtype=np.float32)
        head: Layers = logistic_layers(fitted, n_classes, *as_counts)
        converged = bool((fitted.n_iter_ < fitted.max_iter).all())
        facts = {"rows": len(rows), "converged": converged, "saw_holdout": bool(task.held[rows].any())}
    else:
        simple = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=2000, random_state=task.options.seed)
        )
        searched, facts = data.searched(simple, HISTOGRAM_GRID, data.X.astype(np.float64))
        C = searched.get_params()["logisticregression__C"]
        rows = np.flatnonzero(data.noisy != UNKNOWN)
        with data.watch.stage("train"):
            head = fit_logistic(data.X[rows], data.noisy[rows], n_classes, C=C)
        facts["rows"] = len(rows)
    model = histogram_model(data.task.dataset, backbone, head, data.facts(**facts))
    return data.export(model, None, backbone)


def cnn_classifier(task: Task, layers: Cnn) -> SequentialClassifier:
    """The network with the notebook's settings: Adam, batches of 32, 10 epochs."""
    return SequentialClassifier(
        layers,
        epochs=10,
        batch_size=32,
        learning_rate=1e-3,
        dtype=task.options.dtype,
        random_state=task.options.seed,
    )


def cnn_1(task: Task) -> Trained:
    """CNN 1: a small convolutional network; takes the noisy labels as true."""
    return _train_cnn(task, Cnn(), filtered=False)


def cnn_2(task: Task) -> Trained:
    """CNN 2: the same with a batch norm, on the trusted labels and the noisy ones that agree.

    As published, both networks round their logits to whole numbers before the largest is taken.
    """
    return _train_cnn(task, Cnn(batch_norm=True), filtered=True)


def _train_cnn(task: Task, layers: Cnn, *, filtered: bool) -> Trained:
    data = prepare_training_data(task, PixelBackbone())
    rounded = filtered and task.published
    fitted, facts = data.fit_system(
        cnn_classifier(task, layers), CNN_GRID, filtered=filtered, rounded=rounded
    )
    # Only now: without torch, fitting names the line that installs it.
    from torch import nn

    from assay.notebook.training import dense_layers

    trained = list(fitted.network_)
    end = next(place for place, layer in enumerate(trained) if isinstance(layer, nn.Flatten)) + 1
    trunk = nn.Sequential(*trained[1:end])  # without Pixels: a graph normalises before its trunk
    dataset = data.task.dataset
    model = Model(
        architecture="conv",
        size=CNN_SIZE,
        labels=dataset.classes,
        head=dense_layers(trained[end:]),
        titles=dataset.titles,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        backbone={name: tensor.numpy() for name, tensor in trunk.state_dict().items()},
        facts=data.facts(**facts),
        features="map",
    )
    return data.export(model, trunk, PixelBackbone(), rounded=rounded)


def head_classifier(task: Task) -> SequentialClassifier:
    """The head of Model I and II with the notebook's settings: Adam at 1e-4, batches of 64, 6 epochs."""
    return SequentialClassifier(
        Head(),
        epochs=6,
        batch_size=64,
        learning_rate=1e-4,
        standardise=not task.published,
        dtype=task.options.dtype,
        random_state=task.options.seed,
    )


def frozen_backbone(task: Task) -> Backbone:
    """The pretrained network below the head, with its own preprocessing and smoothly enlarged images.

    As published: images enlarged by repeating pixels, values in [0, 1] whatever the weights were trained
    with, and all places of the last map instead of means. ``tiny`` has no such choices.
    """
    name, options = task.backbone or BACKBONE, task.options
    choices: dict[str, Any] = {"interpolation": "bicubic"}
    if task.published:
        choices = {"features": "map", "interpolation": "nearest", "preprocessing": FROM_ZERO_TO_ONE}
    return load_backbone(
        name,
        options.cache,
        size=task.size or BACKBONE_SIZE,
        # A local file holds the weights of the network that was named, not of the system's own.
        weights=options.weights if task.backbone else None,
        dtype=options.dtype,
        **(choices if name != "tiny" else {}),
    )


def model_1(task: Task) -> Trained:
    """Model I: a head on a frozen network; takes the noisy labels as true.

    The frozen network sees each image once, and its features are kept; the notebook ran it in every epoch.
    """
    return _train_head(task, filtered=False)


def model_2(task: Task) -> Trained:
    """Model II: the same on the trusted labels and the noisy ones that agree."""
    return _train_head(task, filtered=True)


def _train_head(task: Task, *, filtered: bool) -> Trained:
    backbone = frozen_backbone(task)
    data = prepare_training_data(task, backbone)
    fitted, facts = data.fit_system(head_classifier(task), HEAD_GRID, filtered=filtered)
    # Only now: without torch, fitting names the line that installs it.
    from assay.notebook.training import dense_layers

    network: dict[str, Any] = {}
    trunk, origin = None, "built in"
    if isinstance(backbone, TimmBackbone):
        network = {"mean": backbone.mean, "std": backbone.std, "backbone": backbone.tensors()}
        network |= {"features": backbone.features, "interpolation": backbone.interpolation}
        trunk, origin = backbone.trunk(), backbone.origin
    dataset = data.task.dataset
    chosen = {"backbone": backbone.name, "weights": origin, "size": backbone.size}
    model = Model(
        architecture=backbone.name,
        size=backbone.size,
        labels=dataset.classes,
        head=dense_layers(fitted.network_, fitted.mean_, fitted.scale_),
        titles=dataset.titles,
        facts=data.facts(**chosen, **facts),
        **network,
    )
    return data.export(model, trunk, backbone)


SYSTEMS: dict[str, System] = {
    "histogram": histogram,
    "cnn-1": cnn_1,
    "cnn-2": cnn_2,
    "model-1": model_1,
    "model-2": model_2,
}
"""The notebook's systems by the ids that flags, folders and JSON use; ``assay`` is ``pipeline.run``."""
