"""What each defect of the notebook costs, one at a time, on trusted images that are kept aside.

    python benchmarks/notebook.py --data FOLDER [--only baseline backbone …] [--seeds 3] [--images 4000]

FOLDER is that of course.py. The notebook's 2,000 held-out images are left out from the start. Of its other
8,000 trusted ones 6,400 are trained on and 1,600 measure (seed 0). In each group the first line is a system
as intended, the others are the same with one thing changed, judged on the same images. Results go to
benchmarks/results/notebook.json. ``speed`` wants a quiet machine.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from assay.data.dataset import Dataset, ReadOptions
from assay.data.decode import DecodedImage, decode
from assay.data.read import read_dataset
from assay.data.resize import to_square
from assay.data.split import draw_holdout
from assay.embed.backbone import FROM_ZERO_TO_ONE, load_backbone
from assay.embed.images import embed_images
from assay.embed.tiny import HistogramBackbone
from assay.notebook import systems
from assay.notebook.networks import Cnn, Head, SequentialClassifier
from assay.notebook.systems import PixelBackbone, Task, TrainingData, agreed_labels, prepare_training_data
from assay.notebook.work import rows_of
from assay.pipeline.options import RunOptions
from assay.train.heads import fit_logistic
from assay.types import UNKNOWN, Backbone, Labels, Mask

VALID = 1_600
Rights = dict[str, list[np.ndarray]]
"""What was changed -> for each seed, which of the judging images were right."""


@dataclass(frozen=True)
class Course:
    """The data without the sealed images."""

    dataset: Dataset
    judges: Mask
    """True for the images that judge; they teach nothing."""
    cache: Path
    seeds: Sequence[int]

    def task(self, seed: int, *, published: bool = False) -> Task:
        """What a system gets."""
        noisy, trusted = (
            np.where(self.judges, UNKNOWN, labels) for labels in (self.dataset.noisy, self.dataset.trusted)
        )
        dataset = replace(self.dataset, noisy=noisy, trusted=trusted)
        options = RunOptions(seed=seed, cache=self.cache)
        return Task(dataset, self.judges, options, self.dataset.noisy, published=published)

    def only(self, rows: np.ndarray) -> "Course":
        """The same with these rows alone."""
        return replace(self, dataset=rows_of(self.dataset, rows), judges=self.judges[rows])

    def right(
        self, training_data: TrainingData, network: SequentialClassifier, *, rounded: bool = False
    ) -> np.ndarray:
        """Which of the judging images the network gets right."""
        scores = network.decision_scores(training_data.X[np.flatnonzero(self.judges)])
        return (np.round(scores) if rounded else scores).argmax(axis=1) == self.dataset.trusted[self.judges]


def open_course(data: Path, cache: Path, seeds: Sequence[int]) -> Course:
    """The course data, without the images that the notebook held out."""
    options = ReadOptions(noisy=data / "noisy_labels.csv", trusted=data / "clean_labels.csv")
    dataset = read_dataset(data / "images.zip", options)
    split = draw_holdout(dataset.trusted, how="notebook")
    judges = np.sort(np.random.default_rng(0).permutation(split.fit)[:VALID])
    judging = np.zeros(len(dataset), dtype=bool)
    judging[judges] = True
    rows = np.setdiff1d(np.arange(len(dataset)), split.holdout)
    return Course(rows_of(dataset, rows), judging[rows], cache, seeds)


def baseline(course: Course) -> dict[str, Any]:
    """The histograms: the images that judge learned from too; counts unscaled, 100 iterations at most."""
    features = embed_images(course.dataset, HistogramBackbone(), course.cache, mirrored=False).views[0]
    noisy, k = course.dataset.noisy, len(course.dataset.classes)
    rows, judges = np.flatnonzero(~course.judges), np.flatnonzero(course.judges)
    truth = course.dataset.trusted[judges]
    heads = {"as intended": rows, "saw the images that judge": np.arange(len(noisy))}
    rights: Rights = {
        name: [fit_logistic(features[some], noisy[some], k).scores(features[judges]).argmax(axis=1) == truth]
        for name, some in heads.items()
    }
    counts, iterations = np.asarray(features, dtype=np.float64) * 1024, {}
    changed = {"unscaled counts, at most 100 iterations": rows, "both: as published": np.arange(len(noisy))}
    for name, some in changed.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by the iterations
            raw = LogisticRegression(random_state=0).fit(counts[some], noisy[some])
        rights[name], iterations[name] = [raw.predict(counts[judges]) == truth], int(raw.n_iter_.max())
    return summary(rights) | {"iterations": iterations}


CHANGES: dict[str, dict[str, Any]] = {
    "as intended": {},
    "enlarged by repeating pixels": {"interpolation": "nearest"},
    "values in [0, 1]": {"preprocessing": FROM_ZERO_TO_ONE},
    "last map flattened": {"features": "map"},
    "features not standardised": {},
    "all four: as published": {
        "interpolation": "nearest",
        "preprocessing": FROM_ZERO_TO_ONE,
        "features": "map",
    },
}


def frozen(course: Course, **changed: Any) -> Backbone:
    """Model I's backbone."""
    choices = {"interpolation": "bicubic", **changed}
    return load_backbone(systems.BACKBONE, course.cache, size=systems.BACKBONE_SIZE, **choices)


def backbone(course: Course) -> dict[str, Any]:
    """Model II's first stage on the 6,400 trusted images: what the head is given to look at."""
    course = course.only(np.flatnonzero(course.dataset.trusted != UNKNOWN))
    rights: Rights = {}
    for name, changed in CHANGES.items():
        network = frozen(course, **changed)
        published = "standardised" in name or "published" in name
        training_data = prepare_training_data(course.task(0), network)
        for seed in course.seeds:
            head = systems.head_classifier(course.task(seed, published=published))
            fitted = training_data.fit(head, training_data.trusted, "trusted")
            rights.setdefault(name, []).append(course.right(training_data, fitted))
    return summary(rights)


class SoftmaxTwice(Head):
    """The head with a softmax of its own, before the one in the loss."""

    def __call__(self, n_features: int, n_classes: int) -> Any:
        """An untrained network whose outputs lie in [0, 1]."""
        from torch import nn

        return nn.Sequential(*super().__call__(n_features, n_classes), nn.Softmax(dim=1))


def loss(course: Course) -> dict[str, Any]:
    """Softmax outputs taken for logits, had Keras done what it was asked: on trusted and on noisy labels."""
    found: dict[str, Any] = {}
    training_data = prepare_training_data(course.task(0), frozen(course))
    for stage, labels in (("trusted", training_data.trusted), ("noisy", training_data.noisy)):
        rights: Rights = {"as intended": [], "softmax of softmax": []}
        last: dict[str, list[float]] = {}
        for seed in course.seeds:
            for name, build in zip(rights, (Head(), SoftmaxTwice()), strict=True):
                head = systems.head_classifier(course.task(seed)).set_params(build=build)
                fitted = training_data.fit(head, labels, stage)
                rights[name].append(course.right(training_data, fitted))
                last.setdefault(name, []).append(fitted.history_[-1].loss)
        found[stage] = summary(rights) | {"last_loss": last}
    return found


def rounding(course: Course) -> dict[str, Any]:
    """CNN 2: logits rounded to whole numbers, in the filter and in the prediction."""
    training_data = prepare_training_data(course.task(0), PixelBackbone())
    names = ("as intended", "rounded when predicting", "rounded in the filter", "rounded in both")
    rights: Rights = {"first stage": [], "first stage, rounded": []}
    rights |= {name: [] for name in names}
    kept: dict[str, list[dict[str, Any]]] = {"filter": [], "filter, rounded": []}
    for seed in course.seeds:
        layers = Cnn(batch_norm=True)
        first = training_data.fit(
            systems.cnn_classifier(course.task(seed), layers), training_data.trusted, "trusted"
        )
        scores = first.decision_scores(training_data.X)
        for name, said in (("", scores), (", rounded", np.round(scores))):
            rights["first stage" + name].append(
                said[course.judges].argmax(axis=1) == course.dataset.trusted[course.judges]
            )
            labels, figures = filtered(course, training_data, said.argmax(axis=1))
            kept["filter" + name].append(figures)
            second = training_data.fit(
                systems.cnn_classifier(course.task(seed + 1), layers), labels, "trusted and kept"
            )
            for place, rounded in enumerate((False, True)):
                which = names[place + 2 * bool(name)]
                rights[which].append(course.right(training_data, second, rounded=rounded))
    first_stage = {name: rights.pop(name) for name in ("first stage", "first stage, rounded")}
    return summary(rights) | {"first_stage": summary(first_stage), "kept": kept}


def filtered(course: Course, training_data: TrainingData, predicted: Labels) -> tuple[Labels, dict[str, Any]]:
    """The labels that the filter leaves, how many it keeps, and how many of such are right.

    The last is counted on the images that judge, as if only their noisy label were known.
    """
    labels = agreed_labels(training_data.noisy, training_data.trusted, predicted)
    noisy, trusted = course.dataset.noisy[course.judges], course.dataset.trusted[course.judges]
    agreed = noisy == predicted[course.judges]
    right = float((noisy == trusted)[agreed].mean())
    return labels, {**training_data.count_kept(labels), "right_among_kept": right}


def model_2(course: Course) -> dict[str, Any]:
    """Model II's filter: what is kept, how right it is, and what the second stage gains."""
    training_data = prepare_training_data(course.task(0), frozen(course))
    rights: Rights = {"trusted and kept": [], "trusted alone": [], "all noisy labels (Model I)": []}
    rights |= {"all noisy labels, trusted ones in their place": []}
    kept, mended = [], np.where(training_data.trusted == UNKNOWN, training_data.noisy, training_data.trusted)
    for seed in course.seeds:
        head = systems.head_classifier(course.task(seed))
        first = training_data.fit(head, training_data.trusted, "trusted")
        predicted = first.decision_scores(training_data.X).argmax(axis=1)
        labels, figures = filtered(course, training_data, predicted)
        kept.append(figures)
        second = systems.head_classifier(course.task(seed + 1))
        found = (
            training_data.fit(second, labels, "trusted and kept"),
            first,
            training_data.fit(head, training_data.noisy, "noisy"),
            training_data.fit(head, mended, "noisy and trusted"),
        )
        for name, fitted in zip(rights, found, strict=True):
            rights[name].append(course.right(training_data, fitted))
    return summary(rights) | {"kept": kept}


def trusted(course: Course) -> dict[str, Any]:
    """CNN 1 leaves the trusted labels unused that it has: the same with them in the noisy ones' place."""
    training_data = prepare_training_data(course.task(0), PixelBackbone())
    mended = np.where(training_data.trusted == UNKNOWN, training_data.noisy, training_data.trusted)
    rights: Rights = {"noisy labels, as intended": [], "trusted labels in their place": []}
    for seed in course.seeds:
        for name, labels in zip(rights, (training_data.noisy, mended), strict=True):
            fitted = training_data.fit(systems.cnn_classifier(course.task(seed), Cnn()), labels, "noisy")
            rights[name].append(course.right(training_data, fitted))
    return summary(rights)


def epochs(course: Course) -> dict[str, Any]:
    """CNN 2's first stage stopped earlier: nobody watched how it does on other images."""
    course = course.only(np.flatnonzero(course.dataset.trusted != UNKNOWN))
    training_data = prepare_training_data(course.task(0), PixelBackbone())
    rights: Rights = {}
    for many in (10, 2, 3, 4, 5, 7):
        for seed in course.seeds:
            network = systems.cnn_classifier(course.task(seed), Cnn(batch_norm=True)).set_params(epochs=many)
            fitted = training_data.fit(network, training_data.trusted, "trusted")
            rights.setdefault(f"{many} epochs", []).append(course.right(training_data, fitted))
    return summary(rights)


def speed(course: Course, images: int) -> dict[str, Any]:
    """Seconds with the frozen network run in every epoch, and with features computed once; same backbone."""
    learn = np.flatnonzero(~course.judges)
    known = course.dataset.trusted[learn] != UNKNOWN
    n_trusted = images // 6  # as 8,000 to 48,000
    rows = np.sort(np.concatenate([learn[known][:n_trusted], learn[~known][: images - n_trusted]]))
    course = replace(course.only(rows), seeds=(0,))
    network = frozen(course)
    resized_images = np.stack([_square(course.dataset, row, network) for row in range(len(rows))])
    # Nothing cached, and the plan known: it is timed once a machine, whoever asks first.
    with tempfile.TemporaryDirectory(dir=course.cache) as fresh:
        task = course.task(0)
        found = {}
        for name, way in (("model_1", _model_1), ("model_2", _model_2)):
            every = _timed(
                lambda way=way: way(_every_epoch(task, network, resized_images), resized_images, network)
            )
            options = replace(task.options, cache=Path(fresh) / name)
            cold = _timed(
                lambda way=way, o=options: way(prepare_training_data(replace(task, options=o), network))
            )
            warm = _timed(
                lambda way=way, o=options: way(prepare_training_data(replace(task, options=o), network))
            )
            found[name] = {"every_epoch_s": every, "cold_s": cold, "cached_s": warm}
            found[name] |= {"times_faster_cold": every / cold, "times_faster_cached": every / warm}
    plan = getattr(network, "plan", None)
    return found | {"images": images, "trusted": n_trusted, "plan": plan.key if plan else ""}


def _square(dataset: Dataset, row: int, network: Backbone) -> np.ndarray:
    data = dataset.source.read(row)
    image = decode(data) if isinstance(data, bytes) else data
    if not isinstance(image, DecodedImage):
        raise SystemExit(f"{dataset.names[row]}: {image}")
    return to_square(image.pixels, network.size, network.interpolation)


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _every_epoch(task: Task, network: Backbone, resized_images: np.ndarray) -> TrainingData:
    """Training data whose features are to be computed again and again; the images are in memory already."""
    from assay.evaluate import Stopwatch

    features = network.embed(resized_images)
    return TrainingData(task, features, task.dataset.noisy, task.dataset.trusted, 0, Stopwatch())


def _model_1(
    training_data: TrainingData, resized_images: np.ndarray | None = None, network: Backbone | None = None
) -> None:
    head = systems.head_classifier(training_data.task)
    # Of the passes, one more is in the training data itself.
    _again(training_data.noisy, resized_images, network, head.epochs - 1)
    training_data.fit(head, training_data.noisy, "noisy")


def _model_2(
    training_data: TrainingData, resized_images: np.ndarray | None = None, network: Backbone | None = None
) -> None:
    head = systems.head_classifier(training_data.task)
    # The pass in the training data is one of the trusted rows and that of predicting the others.
    _again(training_data.trusted, resized_images, network, head.epochs - 1)
    first = training_data.fit(head, training_data.trusted, "trusted")
    labels = agreed_labels(
        training_data.noisy, training_data.trusted, first.decision_scores(training_data.X).argmax(axis=1)
    )
    _again(labels, resized_images, network, head.epochs)
    training_data.fit(clone(head), labels, "trusted and kept")


def _again(labels: Labels, resized_images: np.ndarray | None, network: Backbone | None, times: int) -> None:
    """Run the network over the rows with a label, as every epoch of the notebook did."""
    if resized_images is not None and network is not None:
        rows = np.flatnonzero(labels != UNKNOWN)
        for _ in range(times):
            network.embed(resized_images[rows])


def summary(rights: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Any]:
    """Accuracies, and how far each lies from the first; intervals over the images, seeds averaged."""
    first = next(iter(rights.values()))
    lines = {}
    for name, seeds in rights.items():
        lines[name] = {"accuracy": float(np.mean(seeds)), "by_seed": [float(one.mean()) for one in seeds]}
        if seeds is not first:
            apart = np.mean(seeds, axis=0) - np.mean(first, axis=0)
            half = 1.96 * float(apart.std(ddof=1)) / len(apart) ** 0.5
            lines[name]["difference"] = float(apart.mean())
            lines[name]["difference_95"] = [float(apart.mean()) - half, float(apart.mean()) + half]
    return {"n": len(first[0]), "lines": lines}


PARTS = {
    "baseline": baseline,
    "backbone": backbone,
    "loss": loss,
    "model-2": model_2,
    "rounding": rounding,
    "epochs": epochs,
    "trusted": trusted,
}


def main() -> None:
    """Measure what was asked for; keep the rest of the results file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "speed"], default=[*PARTS, "speed"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4_000, help="of speed")
    parser.add_argument("--cache", type=Path, help="of features; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache = arguments.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        course = open_course(arguments.data, cache, range(arguments.seeds))
        for name in arguments.only:
            start = time.perf_counter()
            found = speed(course, arguments.images) if name == "speed" else PARTS[name](course)
            keep("notebook", name, found | {"seconds": round(time.perf_counter() - start, 1)})


if __name__ == "__main__":
    main()
