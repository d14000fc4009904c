"""A model on a labelled test set."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from assay._errors import LabelError
from assay._types import UNKNOWN, Labels, Progress, silent
from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_dataset
from assay.learn.model import Model
from assay.measure import Evaluation, evaluate
from assay.predict.batch import predict_dataset


def evaluate_model(
    model: Model,
    images: Path,
    options: ReadOptions,
    cache: Path,
    *,
    dtype: str = "auto",
    workers: int = 2,
    progress: Progress = silent,
) -> Evaluation:
    """Predict ``images`` and compare with ``options.trusted``.

    Raises
    ------
    LabelError : a label that the model does not know
    DataError : no image has a label
    """
    dataset = read_dataset(images, replace(options, noisy=None, allow_new_classes=True))
    truth = _as_model_labels(dataset, model)
    found = predict_dataset(model, dataset, cache, dtype=dtype, workers=workers, progress=progress)
    usable = np.array([status == "ok" for status in found.statuses])
    names = model.titles or model.labels
    return evaluate(truth[usable], found.probs[usable], names, source="test set", skipped=found.n_skipped)


def _as_model_labels(dataset: Dataset, model: Model) -> Labels:
    index = {label: i for i, label in enumerate(model.labels)}
    used = sorted({int(label) for label in dataset.trusted} - {UNKNOWN})
    unknown = [dataset.classes[label] for label in used if dataset.classes[label] not in index]
    if unknown:
        raise LabelError(
            f"labels: {unknown[0]!r} is not a class of the model; it knows {', '.join(model.labels[:10])}"
        )
    # The last entry is what UNKNOWN, -1, picks.
    lookup = np.array([*(index.get(name, UNKNOWN) for name in dataset.classes), UNKNOWN])
    truth: Labels = lookup[dataset.trusted]
    return truth
