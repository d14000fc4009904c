"""All models of a folder on the same images: the notebook's table of predictions, and its last cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_images
from assay.errors import ModelError, UsageError
from assay.evaluate import Evaluation, evaluate_predictions
from assay.notebook.compare_folder import CompareFolder
from assay.notebook.listing import TITLES
from assay.predict.batch import Predictions, predict_together
from assay.predict.model import MANIFEST
from assay.predict.runtime import Runtime, load_runtime
from assay.predict.test_set import as_model_labels, check_measurable, read_test_set
from assay.types import Notify, Progress, ignore_message, silent

INDEX = "Index"


@dataclass(frozen=True)
class Lineup:
    """What several models say of the same images."""

    found: Mapping[str, Predictions]
    """Recipe -> its predictions, in the order of ``TITLES``; at least one."""
    header: tuple[str, ...]
    """The columns that were asked for: ``INDEX`` and titles of recipes."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, in the order of the input."""
        return next(iter(self.found.values())).names

    @property
    def has_stems(self) -> bool:
        """Whether each image is told by its file's stem; if not, the whole names tell them apart."""
        stems = [_stem(name) for name in self.names]
        return len(set(stems)) == len(stems)

    @property
    def n_skipped(self) -> int:
        """Images to which some model has no answer."""
        rows = zip(*(predictions.statuses for predictions in self.found.values()), strict=True)
        return sum(any(status != "ok" for status in row) for row in rows)

    def columns(self) -> list[list[object]]:
        """The columns of ``header``: labels as they came in, None where the image could not be used."""
        index = [_stem(name) for name in self.names] if self.has_stems else self.names
        labels = {TITLES[system]: list[object](said.predicted) for system, said in self.found.items()}
        return [list(index) if title == INDEX else labels[title] for title in self.header]


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def models_in(folder: Path) -> dict[str, Path]:
    """Recipe -> the folder of its finished model, in the order of ``TITLES``; failed recipes are absent.

    Raises
    ------
    ModelError : there is none
    """
    compared = CompareFolder(folder)
    failed = {row["system"] for row in compared.record().get("rows", ()) if row["status"] == "failed"}
    places = {system: compared.model(system) for system in TITLES if system not in failed}
    found = {system: place for system, place in places.items() if (place / MANIFEST).is_file()}
    if not found:
        raise ModelError(
            f"{folder}: expected the folder of a comparison, with the models of its recipes, found none"
        )
    return found


def predict_lineup(
    folder: Path,
    images: Path | Dataset,
    columns: Sequence[str] | None = None,
    *,
    workers: int = 2,
    progress: Progress = silent,
) -> Lineup:
    """Predict every image with every model of a comparison.

    Parameters
    ----------
    images : their place, or what was read of it
    columns : ``INDEX`` and titles or ids of recipes, in the order to write them; None for all there are

    Raises
    ------
    UsageError : a column that there is not
    ModelError, DataError : as ``predict.batch.predict``
    """
    places = models_in(folder)
    header = _header(columns, places, folder)
    # Only what is asked for is computed.
    asked = [system for system in places if TITLES[system] in header]
    runtimes = {system: load_runtime(places[system]) for system in asked}
    dataset = images if isinstance(images, Dataset) else read_images(images)
    found = predict_together(runtimes, dataset, workers=workers, progress=progress)
    return Lineup(found, header)


def _header(columns: Sequence[str] | None, places: Mapping[str, Path], folder: Path) -> tuple[str, ...]:
    there = [INDEX, *(TITLES[system] for system in places)]
    if columns is None:
        return tuple(there)
    titles = tuple(TITLES.get(column, column) for column in columns)
    strange = [title for title in titles if title not in there]
    if strange:
        raise UsageError(
            f"--columns: expected columns that there are, got {strange[0]!r}; {folder} has {', '.join(there)}"
        )
    if len(set(titles)) < len(titles) or {*titles} <= {INDEX}:
        raise UsageError(f"--columns: expected recipes, each once, got {', '.join(titles)}")
    return titles


def evaluate_lineup(
    folder: Path,
    images: Path,
    options: ReadOptions,
    *,
    workers: int = 2,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Every model of a comparison on a labelled test set, all on the same images.

    Parameters
    ----------
    options : how to read the labels, which are its ``trusted``
    notify : is told how the labels were read

    Raises
    ------
    LabelError : a label that a model does not know
    ModelError, DataError : as ``predict.test_set.evaluate_model``
    """
    runtimes: dict[str, Runtime] = {
        system: load_runtime(place) for system, place in models_in(folder).items()
    }
    dataset = read_test_set(images, options, runtimes.values())
    for note in dataset.notes:
        notify(note)
    truth = {
        system: as_model_labels(dataset, runtime, any_form=options.normalize_labels)
        for system, runtime in runtimes.items()
    }
    found = predict_together(runtimes, dataset, workers=workers, progress=progress)
    # Models of different size may refuse different images; the figures are of those that all could use.
    each = zip(*(said.statuses for said in found.values()), strict=True)
    statuses = [next((status for status in row if status != "ok"), "ok") for row in each]
    check_measurable(next(iter(truth.values())), statuses)
    usable = np.array([status == "ok" for status in statuses])
    return {
        system: evaluate_predictions(
            truth[system][usable],
            found[system].probs[usable],
            runtime.titles or runtime.labels,
            source="test set",
            skipped=int((~usable).sum()),
        )
        for system, runtime in runtimes.items()
    }
