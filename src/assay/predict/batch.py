"""New images to rows: one for each image, in order, with a status."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay._types import Probs, Progress, same_length, silent
from assay.data.dataset import Dataset
from assay.data.growing import GrowingTable
from assay.data.read import read_images
from assay.embed.chunks import read_chunks
from assay.learn.model import Model
from assay.predict.runtime import Runtime, load_runtime

COLUMNS = ("name", "label", "probability", "status")


@dataclass(frozen=True)
class Predictions:
    """What a model says of N images."""

    names: tuple[str, ...]
    """In the order of the input."""
    probs: Probs
    """P(class) (N, K); zeros where the image could not be used."""
    labels: tuple[str, ...]
    """The K labels that the columns of ``probs`` stand for."""
    statuses: tuple[str, ...]
    """``ok``, or why an image has no label."""

    def __post_init__(self) -> None:
        same_length(names=self.names, probs=self.probs, statuses=self.statuses)

    def columns(self) -> list[list[object]]:
        """The columns of ``COLUMNS``; label and probability are None where the status is not ``ok``."""
        usable = [status == "ok" for status in self.statuses]
        # As float64: a rounded float32 would be written with all its digits, 0.7936999797821045.
        best, top = self.probs.argmax(axis=1).tolist(), self.probs.max(axis=1).astype(np.float64)
        return [
            list(self.names),
            [self.labels[i] if good else None for i, good in zip(best, usable, strict=True)],
            [p if good else None for p, good in zip(np.round(top, 4).tolist(), usable, strict=True)],
            list(self.statuses),
        ]

    @property
    def n_skipped(self) -> int:
        """Images without a label."""
        return sum(status != "ok" for status in self.statuses)


def predict(
    model: Model | Path | str, images: Path | str, *, workers: int = 2, progress: Progress = silent
) -> Predictions:
    """Predict every image of a folder or archive.

    Parameters
    ----------
    model : a Model, a model folder or a run folder
    workers : threads that read and decode

    Raises
    ------
    ModelError : no model, a damaged one, or one without a graph
    DataError : no image
    """
    return predict_dataset(load_runtime(model), read_images(Path(images)), workers=workers, progress=progress)


def predict_dataset(
    runtime: Runtime, dataset: Dataset, *, workers: int = 2, progress: Progress = silent
) -> Predictions:
    """Predict the images of a dataset, whatever labels it has."""
    parts = list(predict_parts(runtime, dataset, workers=workers, progress=progress))
    none = np.zeros((0, len(runtime.labels)), dtype=np.float32)
    probs = np.concatenate([none, *(part.probs for part in parts)])
    return Predictions(
        dataset.names, probs, runtime.labels, tuple(status for part in parts for status in part.statuses)
    )


def predict_parts(
    runtime: Runtime, dataset: Dataset, *, first: int = 0, workers: int = 2, progress: Progress = silent
) -> Iterator[Predictions]:
    """The same, a few hundred images at a time, as they come: nothing of what was before is kept.

    Parameters
    ----------
    first : row to begin at
    """
    chunks = read_chunks(
        dataset, runtime.size, workers=workers, interpolation=runtime.interpolation, first=first
    )
    for chunk in chunks:
        rows, decoded = chunk.rows, chunk.decoded
        probs = np.zeros((len(rows), len(runtime.labels)), dtype=np.float32)
        if decoded:
            places = [row - rows.start for row in decoded]
            probs[places] = runtime.probabilities(np.stack(list(decoded.values())))
        statuses = [chunk.skipped[row].reason if row in chunk.skipped else "ok" for row in rows]
        progress("predict", rows.stop, len(dataset))
        yield Predictions(dataset.names[rows.start : rows.stop], probs, runtime.labels, tuple(statuses))


def write_predictions(
    runtime: Runtime,
    dataset: Dataset,
    table: GrowingTable,
    *,
    workers: int = 2,
    progress: Progress = silent,
) -> int:
    """Add a row for each image that ``table`` does not have yet; how many of its rows have no label."""
    for part in predict_parts(runtime, dataset, first=table.n_rows, workers=workers, progress=progress):
        table.tally += part.n_skipped
        table.add(part.columns())
    return table.tally


def identity_of(runtime: Runtime, dataset: Dataset, *more: object) -> str:
    """Of all that rows depend on, besides the bytes of the images."""
    digest = hashlib.sha256(repr((runtime.digest, more)).encode())
    for name in dataset.names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
