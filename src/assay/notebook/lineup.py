"""All models of a comparison on the same images: the notebook's table of predictions, and its last cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_images
from assay.errors import ModelError, UsageError
from assay.evaluate import Evaluation, evaluate_predictions
from assay.notebook.folder import CompareFolder
from assay.notebook.systems import TITLES
from assay.predict.batch import Predictions, predict_together
from assay.predict.model import MANIFEST
from assay.predict.runtime import load_runtime
from assay.predict.test_set import as_model_labels, check_measurable, read_test_set
from assay.types import Notify, Progress, ignore_message, silent

INDEX = "Index"


@dataclass(frozen=True)
class Lineup:
    """Predictions of several models for the same images."""

    found: Mapping[str, Predictions]
    """System -> its predictions, in the order of ``TITLES``; at least one."""
    header: tuple[str, ...]
    """The columns: ``INDEX`` and titles of systems."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, in the order of the input."""
        return next(iter(self.found.values())).names

    @property
    def has_stems(self) -> bool:
        """Whether ``INDEX`` holds the stems of the files; else, where two are equal, the whole names."""
        return len({PurePosixPath(name).stem for name in self.names}) == len(self.names)

    @property
    def n_skipped(self) -> int:
        """Images for which some model has no prediction."""
        rows = zip(*(predictions.statuses for predictions in self.found.values()), strict=True)
        return sum(any(status != "ok" for status in row) for row in rows)

    def columns(self) -> list[list[object]]:
        """The columns of ``header``: labels as they came in, None where the image could not be used."""
        stems = [PurePosixPath(name).stem for name in self.names]
        known: dict[str, list[object]] = {
            TITLES[system]: list(predictions.predicted) for system, predictions in self.found.items()
        }
        known[INDEX] = list(stems if self.has_stems else self.names)
        return [known[title] for title in self.header]


def models_in(folder: Path) -> dict[str, Path]:
    """System -> the folder of its model, in the order of ``TITLES``; systems that failed are absent.

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
            f"{folder}: expected the folder of a comparison, with the models of its systems, found none"
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
    images : their place, or a dataset
    columns : ``INDEX`` and titles or ids of systems, in the order to write them; None for all there are

    Raises
    ------
    UsageError : a column that does not exist
    ModelError, DataError : as ``predict_together``
    """
    places = models_in(folder)
    there = (INDEX, *(TITLES[system] for system in places))
    header = there if columns is None else tuple(TITLES.get(column, column) for column in columns)
    strange = [title for title in header if title not in there]
    if strange:
        raise UsageError(
            f"--columns: expected columns that exist, got {strange[0]!r}; {folder} has {', '.join(there)}"
        )
    if len(set(header)) < len(header) or {*header} <= {INDEX}:
        raise UsageError(f"--columns: expected systems, each once, got {', '.join(header)}")
    # Only the named systems are computed.
    runtimes = {system: load_runtime(place) for system, place in places.items() if TITLES[system] in header}
    dataset = images if isinstance(images, Dataset) else read_images(images)
    found = predict_together(runtimes, dataset, workers=workers, progress=progress)
    return Lineup(found, header)


def evaluate_lineup(
    folder: Path,
    images: Path,
    options: ReadOptions,
    *,
    workers: int = 2,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Evaluate every model of a comparison on a labelled test set, all on the same images.

    Parameters
    ----------
    options : how to read the labels, which are its ``trusted``
    notify : gets how the labels were read

    Raises
    ------
    LabelError : a label that a model does not know
    ModelError, DataError : as ``evaluate_runtime``
    """
    runtimes = {system: load_runtime(place) for system, place in models_in(folder).items()}
    dataset = read_test_set(images, options, runtimes.values())
    for note in dataset.notes:
        notify(note)
    truth = {
        system: as_model_labels(dataset, runtime, any_form=options.normalize_labels)
        for system, runtime in runtimes.items()
    }
    found = predict_together(runtimes, dataset, workers=workers, progress=progress)
    # Models of different size may skip different images; the figures are of those that all could use.
    each = zip(*(predictions.statuses for predictions in found.values()), strict=True)
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
