"""New images to rows: one for each image, in order, with a status."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay._errors import MissingExtraError, ModelError
from assay._types import Backbone, Probs, Progress, same_length, silent
from assay.data.dataset import Dataset
from assay.data.read import read_images
from assay.embed.backbone import load_backbone
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import stream_features
from assay.learn.model import Model, load_model

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
    model: Model | Path | str,
    images: Path | str,
    cache: Path,
    *,
    dtype: str = "auto",
    workers: int = 2,
    progress: Progress = silent,
) -> Predictions:
    """Predict every image of a folder or archive.

    Parameters
    ----------
    model : a Model, a model folder or a run folder
    cache : folder for measured speeds; features of new images are not kept

    Raises
    ------
    ModelError : no model, or a damaged one
    DataError : no image
    MissingExtraError : the backbone needs torch, which is not installed
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    return predict_dataset(
        loaded, read_images(Path(images)), cache, dtype=dtype, workers=workers, progress=progress
    )


def predict_dataset(
    model: Model,
    dataset: Dataset,
    cache: Path,
    *,
    dtype: str = "auto",
    workers: int = 2,
    progress: Progress = silent,
) -> Predictions:
    """Predict the images of a dataset, whatever labels it has."""
    backbone = restore_backbone(model, cache, dtype)
    probs = np.zeros((len(dataset), len(model.labels)), dtype=np.float32)
    statuses = ["ok"] * len(dataset)
    for rows, found, skipped in _chunks(model, dataset, backbone, workers):
        probs[rows.start : rows.stop] = found
        for row, reason in skipped.items():
            statuses[row] = reason
            probs[row] = 0
        progress("predict", rows.stop, len(dataset))
    return Predictions(dataset.names, probs, model.labels, tuple(statuses))


def _chunks(
    model: Model, dataset: Dataset, backbone: Backbone, workers: int
) -> Iterator[tuple[range, Probs, dict[int, str]]]:
    for part in stream_features(dataset, backbone, workers=workers):
        yield (
            part.rows,
            model.probabilities(part.features),
            {row: why.reason for row, why in part.skipped.items()},
        )


def restore_backbone(model: Model, cache: Path, dtype: str = "auto") -> Backbone:
    """The backbone that a model was learned on, from its own tensors.

    Raises
    ------
    ModelError : a backbone whose features are not those that the head was learned on
    MissingExtraError : the backbone needs torch, which is not installed
    """
    if model.architecture == "histogram":
        backbone: Backbone = HistogramBackbone(size=model.size)
    elif not model.backbone:
        backbone = load_backbone(model.architecture, cache, size=model.size)
    else:
        backbone = _from_tensors(model, cache, dtype)
    expected = len(model.head.mean)
    if backbone.width != expected:
        raise ModelError(
            f"expected a backbone of {expected} features, as the head has, "
            f"got {backbone.width} of {model.architecture!r}; copy the whole model folder again"
        )
    return backbone


def _from_tensors(model: Model, cache: Path, dtype: str) -> Backbone:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "train") from None

    from assay.embed.backbone import assemble_backbone
    from assay.embed.network import Preprocessing
    from assay.embed.weights import Weights, tensors_digest

    tensors = {name: torch.from_numpy(tensor) for name, tensor in model.backbone.items()}
    weights = Weights(tensors, tensors_digest(tensors), "model")
    use = Preprocessing(model.mean, model.std)  # type: ignore[arg-type]  # three numbers each, as saved
    return assemble_backbone(model.architecture, weights, cache, size=model.size, use=use, dtype=dtype)
