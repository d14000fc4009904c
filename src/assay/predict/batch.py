"""New images to rows: one for each image, in order, with a status."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

from assay.data.dataset import Dataset, Skipped
from assay.data.forms import TargetSize
from assay.data.read import read_images
from assay.data.write import ResumableWriter
from assay.embed.chunks import read_chunks
from assay.predict.conformal import prediction_sets
from assay.predict.model import Model
from assay.predict.runtime import Runtime, load_runtime
from assay.types import PerImage, Probs, Progress, same_length, silent

COLUMNS = ("file", "label", "probability", "status")

PASSING = frozenset(("missing", "permission", "unreadable", "changed"))
"""Statuses of images that may be had at another time."""

UNSURE = "unsure"
"""The status of an image whose likeliest class is less probable than was asked for."""


@dataclass(frozen=True)
class Options:
    """How to answer."""

    min_confidence: float = 0.0
    """Below this probability an image gets no label: its status is ``unsure``."""
    set_threshold: float | None = None
    """With it each image also gets the set of its classes that are at least so probable, see
    ``predict.conformal``; None for no sets."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return COLUMNS if self.set_threshold is None else (*COLUMNS, "set")


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
    image_warnings: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Place -> what is unusual about an image that was used: see ``data.images.FLAGS``."""

    def __post_init__(self) -> None:
        same_length(names=self.names, probs=self.probs, statuses=self.statuses)

    def columns(self, manner: Options = Options()) -> list[list[object]]:
        """The columns that ``manner`` names; label and probability are None where an image could not be used.

        A set is written with ``|`` between its labels, and a backslash before a ``|`` or backslash in one.
        """
        usable = [status == "ok" for status in self.statuses]
        # As float64: a rounded float32 would be written with all its digits, 0.7936999797821045.
        best, top = self.probs.argmax(axis=1).tolist(), self.probs.max(axis=1).astype(np.float64)
        sure = [good and p >= manner.min_confidence for p, good in zip(top.tolist(), usable, strict=True)]
        states = zip(self.statuses, usable, sure, strict=True)
        found: list[list[object]] = [
            list(self.names),
            [self.labels[i] if good else None for i, good in zip(best, sure, strict=True)],
            [p if good else None for p, good in zip(np.round(top, 4).tolist(), usable, strict=True)],
            [UNSURE if good and not certain else status for status, good, certain in states],
        ]
        if manner.set_threshold is not None:
            sets = self.sets(manner.set_threshold)
            found.append(["|".join(map(_escaped, labels)) if labels else None for labels in sets])
        return found

    def sets(self, threshold: float) -> list[tuple[str, ...]]:
        """The labels that each image may have, the likeliest first; none where it could not be used."""
        order, inside = np.argsort(-self.probs, axis=1, kind="stable"), prediction_sets(self.probs, threshold)
        return [
            tuple(self.labels[k] for k in ranks[:size]) if status == "ok" else ()
            for ranks, size, status in zip(order, inside.sum(axis=1), self.statuses, strict=True)
        ]

    @property
    def predicted(self) -> tuple[str | None, ...]:
        """The likeliest label of each image; None where it could not be used."""
        usable = zip(self.probs.argmax(axis=1).tolist(), self.statuses, strict=True)
        return tuple(self.labels[k] if status == "ok" else None for k, status in usable)

    @property
    def confidence(self) -> PerImage:
        """P(that label) (N,); 0 where the image could not be used."""
        top: PerImage = self.probs.max(axis=1, initial=0).astype(np.float64)
        return top

    @property
    def n_skipped(self) -> int:
        """Images that could not be used."""
        return sum(status != "ok" for status in self.statuses)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace("|", "\\|")


def answered(
    names: Sequence[str], seen: Sequence[object], probs: Probs, labels: tuple[str, ...]
) -> Predictions:
    """Predictions of images of which some could not be used.

    Parameters
    ----------
    seen : Skipped for each of those that could not
    probs : P(class) (M, K) of those that could, in their order
    """
    good = [row for row, found in enumerate(seen) if not isinstance(found, Skipped)]
    all_probs = np.zeros((len(seen), len(labels)), dtype=np.float32)
    all_probs[good] = probs
    statuses = tuple(found.reason if isinstance(found, Skipped) else "ok" for found in seen)
    return Predictions(tuple(names), all_probs, labels, statuses)


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
    begins = accumulate((len(part.names) for part in parts), initial=0)
    image_warnings = {
        begin + place: flags
        for begin, part in zip(begins, parts, strict=False)
        for place, flags in part.image_warnings.items()
    }
    none = np.zeros((0, len(runtime.labels)), dtype=np.float32)
    probs = np.concatenate([none, *(part.probs for part in parts)])
    statuses = tuple(status for part in parts for status in part.statuses)
    return Predictions(dataset.names, probs, runtime.labels, statuses, image_warnings)


def predict_parts(
    runtime: Runtime, dataset: Dataset, *, first: int = 0, workers: int = 2, progress: Progress = silent
) -> Iterator[Predictions]:
    """The same, a few hundred images at a time, as they come: nothing of what was before is kept.

    Parameters
    ----------
    first : row to begin at
    """
    form = TargetSize(runtime.size, runtime.interpolation)
    for chunk in read_chunks(dataset, form, workers=workers, first=first):
        rows, decoded = chunk.rows, chunk.squares(form)
        probs = np.zeros((len(rows), len(runtime.labels)), dtype=np.float32)
        if decoded:
            places = [row - rows.start for row in decoded]
            probs[places] = runtime.probabilities(np.stack(list(decoded.values())))
        statuses = [chunk.skipped[row].reason if row in chunk.skipped else "ok" for row in rows]
        progress("predict", rows.stop, len(dataset))
        image_warnings = {row - rows.start: flags for row, flags in chunk.flags.items()}
        names = dataset.names[rows.start : rows.stop]
        yield Predictions(names, probs, runtime.labels, tuple(statuses), image_warnings)


@dataclass
class Written:
    """What was told of images while their rows were written."""

    first: int = 0
    """Row that they began at: a command that goes on has rows already."""
    n_skipped: int = 0
    """Images that could not be used, those included whose rows were there already."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of those that were looked at now, why they could not be used."""
    image_warnings: Counter[str] = field(default_factory=Counter)
    """Of those that were looked at now and used, what is unusual about them."""


def write_predictions(
    runtime: Runtime,
    dataset: Dataset,
    table: ResumableWriter,
    manner: Options = Options(),
    *,
    workers: int = 2,
    progress: Progress = silent,
) -> Written:
    """Add a row for each image that ``table`` does not have yet."""
    written = Written(table.n_rows)
    for part in predict_parts(runtime, dataset, first=table.n_rows, workers=workers, progress=progress):
        table.tally += part.n_skipped
        written.reasons.update(status for status in part.statuses if status != "ok")
        written.image_warnings.update(flag for flags in part.image_warnings.values() for flag in flags)
        # Hundreds in a row: their place is gone for a while, such as a disk of the network.
        table.add(part.columns(manner), lasting=not PASSING.issuperset(part.statuses))
    written.n_skipped = table.tally
    return written


def identity_of(runtime: Runtime, dataset: Dataset, *more: object) -> str:
    """Of all that rows depend on, besides the bytes of the images."""
    digest = hashlib.sha256(repr((runtime.digest, more)).encode())
    for name in dataset.names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
