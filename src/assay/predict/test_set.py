"""A model on a labelled test set: true labels as the model's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from assay.data.dataset import Dataset, ReadOptions, and_skipped
from assay.data.labels import by_form, closest, plain_form
from assay.data.place import Place
from assay.data.read import read_trusted
from assay.data.tables import shown, some
from assay.errors import DataError, LabelError
from assay.evaluate import Evaluation, evaluate_predictions
from assay.predict.batch import Predictions, predict_together
from assay.predict.runtime import Runtime
from assay.types import UNKNOWN, Labels, Notify, Progress, ignore_message, silent

SHOWN = 10
"""Classes named in a message."""


def evaluate_together(
    runtimes: Mapping[str, Runtime],
    images: Place | None,
    options: ReadOptions,
    *,
    workers: int = 2,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Several models, by name, measured on the same images against ``options.trusted``."""
    dataset = read_test_set(images, options, runtimes.values())
    for note in dataset.notes:
        notify(note)
    truth = {
        name: as_model_labels(dataset, runtime, any_form=options.normalize_labels)
        for name, runtime in runtimes.items()
    }
    found = predict_together(runtimes, dataset, workers=workers, progress=progress)
    # Models of different size may skip different images; the figures are of those that all could use.
    statuses = common_statuses(found)
    check_measurable(next(iter(truth.values())), statuses)
    usable = np.array([status == "ok" for status in statuses])
    return {
        name: evaluate_predictions(
            truth[name][usable],
            found[name].probs[usable],
            runtime.titles or runtime.labels,
            source="test set",
            skipped=int((~usable).sum()),
            groups=None if dataset.groups is None else dataset.groups[usable],
        )
        for name, runtime in runtimes.items()
    }


def common_statuses(found: Mapping[str, Predictions]) -> list[str]:
    """Of each image ``ok``, or why the first model that could not use it could not."""
    each = zip(*(predictions.statuses for predictions in found.values()), strict=True)
    return [next((status for status in row if status != "ok"), "ok") for row in each]


def read_test_set(images: Place | None, options: ReadOptions, models: Iterable[Runtime]) -> Dataset:
    """The images with ``options.trusted`` as their labels; classes of a model may differ in case alone."""
    known = {name for model in models for name in (*model.titles, *model.labels)}
    return read_trusted(images, replace(options, allow_new_classes=True), apart=known)


def check_measurable(truth: Labels, statuses: Sequence[str]) -> None:
    """DataError, with the reasons in ``statuses``, if no image can be used that has a label."""
    labelled = [status for status, label in zip(statuses, truth.tolist(), strict=True) if label != UNKNOWN]
    if "ok" not in labelled:
        raise DataError(
            f"expected images that have a label and can be used, got none among {len(labelled):,}"
            f"{and_skipped(labelled)}"
        )


def as_model_labels(dataset: Dataset, runtime: Runtime, *, any_form: bool = False) -> Labels:
    """The trusted labels as indices into the model's, written as its labels or as their names for people.

    With ``any_form`` a label may differ from the model's in case, spaces or Unicode form.
    """
    places = {name: i for names in (runtime.titles, runtime.labels) for i, name in enumerate(names)}
    forms = by_form(places) if any_form else {}
    index = {}
    for name in dataset.classes:
        same = {places[name]} if name in places else {places[one] for one in forms.get(plain_form(name), ())}
        if len(same) == 1:  # a form that several classes have names none of them
            index[name] = same.pop()
    used = sorted({int(label) for label in dataset.trusted} - {UNKNOWN})
    unknown = [label for label in used if dataset.classes[label] not in index]
    if unknown:
        rows = np.flatnonzero(np.isin(dataset.trusted, unknown))
        others = f" and {len(rows) - 1:,} more images" if len(rows) > 1 else ""
        label = dataset.classes[unknown[0]]
        raise LabelError(
            f"the label {shown(label)} is not a class of the model; {_hint(label, runtime)} "
            f"Correct or leave out the label of {shown(dataset.names[rows[0]])}{others}"
        )
    # The last entry is what UNKNOWN, -1, picks.
    lookup = np.array([*(index.get(name, UNKNOWN) for name in dataset.classes), UNKNOWN])
    truth: Labels = lookup[dataset.trusted]
    return truth


def _hint(label: str, runtime: Runtime) -> str:
    names = (*runtime.titles, *runtime.labels)
    near = closest(label, names)
    if near is None:
        return f"it knows {some(runtime.titles or runtime.labels, SHOWN)}."
    if plain_form(near) == plain_form(label):
        how = "they differ only in case, spaces or Unicode form; pass --normalize-labels"
        return f"{shown(near)} is one: {how}."
    return f"did you mean {shown(near)}?"
