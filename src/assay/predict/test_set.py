"""A model on a labelled test set."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from assay._errors import LabelError
from assay._types import UNKNOWN, Labels, Progress, silent
from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_trusted
from assay.data.spelling import closest
from assay.data.tables import shown
from assay.learn.model import Model
from assay.measure import Evaluation, evaluate
from assay.predict.batch import predict_dataset
from assay.predict.runtime import Runtime, load_runtime

SHOWN = 10
"""Classes named in a message."""


def evaluate_model(
    model: Model | Path | str,
    images: Path,
    options: ReadOptions,
    *,
    workers: int = 2,
    say: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Predict ``images`` and compare with ``options.trusted``; parameters as those of ``batch.predict``.

    Parameters
    ----------
    say : is told how the labels were read; by default nobody is

    Raises
    ------
    ModelError : no model, a damaged one, or one without a graph
    LabelError : a label that the model does not know
    DataError : no image has a label
    """
    runtime = load_runtime(model)
    dataset = read_trusted(images, replace(options, allow_new_classes=True))
    if say is not None:
        for note in dataset.notes:
            say(note)
    truth = as_model_labels(dataset, runtime)
    found = predict_dataset(runtime, dataset, workers=workers, progress=progress)
    usable = np.array([status == "ok" for status in found.statuses])
    names = runtime.titles or runtime.labels
    return evaluate(truth[usable], found.probs[usable], names, source="test set", skipped=found.n_skipped)


def as_model_labels(dataset: Dataset, runtime: Runtime) -> Labels:
    """The trusted labels as indices into the model's, written as its labels or as their names for people.

    Raises
    ------
    LabelError : a label that the model does not know
    """
    index = {name: i for names in (runtime.titles, runtime.labels) for i, name in enumerate(names)}
    used = sorted({int(label) for label in dataset.trusted} - {UNKNOWN})
    unknown = [dataset.classes[label] for label in used if dataset.classes[label] not in index]
    if unknown:
        near = closest(unknown[0], runtime.labels)
        hint = f"did you mean {shown(near)}?" if near else f"it knows {_some(runtime.labels)}"
        raise LabelError(
            f"the label {shown(unknown[0])} is not a class of the model; {hint} "
            f"Correct or leave out {_images(dataset, unknown)}"
        )
    # The last entry is what UNKNOWN, -1, picks.
    lookup = np.array([*(index.get(name, UNKNOWN) for name in dataset.classes), UNKNOWN])
    truth: Labels = lookup[dataset.trusted]
    return truth


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - SHOWN
    return ", ".join(shown(label) for label in labels[:SHOWN]) + (f" and {more:,} more." if more > 0 else ".")


def _images(dataset: Dataset, unknown: Sequence[str]) -> str:
    """How many images have one of these labels, and the first of them."""
    wrong = [dataset.classes.index(label) for label in unknown]
    rows = np.flatnonzero(np.isin(dataset.trusted, wrong))
    others = f" and {len(rows) - 1:,} more images" if len(rows) > 1 else ""
    return f"the label of {shown(dataset.names[rows[0]])}{others}"
