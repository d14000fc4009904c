"""load_model: a trained model that predicts arrays, pictures, files and folders, and evaluates itself."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from assay.data.dataset import ReadOptions
from assay.data.files import Skipped
from assay.data.loader import Picture, load_image
from assay.data.place import Url, is_url, place_of
from assay.data.read import read_images
from assay.data.vectors import Vectors, vectors_of
from assay.predict.batch import Predictions, predict_dataset
from assay.predict.model import Model
from assay.predict.runtime import Runtime, load_runtime
from assay.types import Matrix, Notify, Progress, ignore_message, silent

if TYPE_CHECKING:
    from assay.evaluate import Evaluation

AT_ONCE = 256
"""Pictures of a list that are held decoded at a time."""

PLACES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".parquet", ".pq"}
"""Endings of files that hold many images."""


class Predictor:
    """A model that is ready to predict; threads may share it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def __repr__(self) -> str:
        runtime = self.runtime
        return f"Predictor({len(runtime.labels)} classes, {runtime.takes}, {runtime.digest[:12]})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, as they came in."""
        return self.runtime.labels

    @property
    def size(self) -> int:
        """Side in pixels that images are resized to; 0 for a model of features."""
        return self.runtime.size

    def predict(
        self,
        images: Picture | Url | Sequence[Picture] | Matrix,
        *,
        workers: int = 2,
        progress: Progress = silent,
    ) -> Predictions:
        """The predictions of images, one row each, in order; a bad image is a row with its reason.

        Parameters
        ----------
        images : one picture, several in a list or an array (N, H, W, 3), or a folder, zip, tar or Parquet
            file of images, or the URL of one; for a model of features an array (N, D), or a .npy or Parquet
            file
        workers : threads that decode

        Raises
        ------
        ValueError : an array of another shape or type
        DataError : a place without images, features of another length
        """
        if self.runtime.width:
            dataset = read_images(None, ReadOptions(features=_features(images)))
            return predict_dataset(self.runtime, dataset, workers=workers, progress=progress)
        if isinstance(images, Url) or (isinstance(images, str | Path) and _is_place(images)):
            dataset = read_images(place_of(images))
            return predict_dataset(self.runtime, dataset, workers=workers, progress=progress)
        many: list[Picture]
        if isinstance(images, np.ndarray):
            many = [images] if images.ndim < 4 else [*images]
        else:
            many = [images] if isinstance(images, Image.Image | Path | str | bytes) else [*images]
        seen: list[Skipped | None] = []
        probs = [np.zeros((0, len(self.labels)))]
        with ThreadPoolExecutor(max(workers, 1), "decode") as pool:
            for start in range(0, len(many), AT_ONCE):
                some = many[start : start + AT_ONCE]
                found = list(pool.map(lambda picture: load_image(picture, self.runtime.target), some))
                pixels = [one.pixels for one in found if not isinstance(one, Skipped)]
                if pixels:
                    probs.append(self.runtime.probabilities(np.stack(pixels)))
                seen += [one if isinstance(one, Skipped) else None for one in found]
                progress("predict", len(seen), len(many))
        names = [
            str(picture) if isinstance(picture, str | Path) else str(row) for row, picture in enumerate(many)
        ]
        return Predictions.of_usable(names, seen, np.concatenate(probs), self.labels)

    def evaluate(
        self,
        images: Path | Url | str | Matrix | None,
        labels: Path | str | ReadOptions,
        *,
        workers: int = 2,
        notify: Notify = ignore_message,
        progress: Progress = silent,
    ) -> "Evaluation":
        """Accuracy and more on labelled images that the model was not trained on.

        Parameters
        ----------
        images : their place; for a model of features as in ``predict``, or None if ``labels`` has them
        labels : a file of true labels, or how to read them: ``trusted`` of the options

        Raises
        ------
        LabelError : a label that the model does not know
        DataError : no image that can be used has a label
        """
        from assay.predict.test_set import evaluate_together

        options = labels if isinstance(labels, ReadOptions) else ReadOptions(trusted=Path(labels))
        if self.runtime.width and options.features is None:
            images, options = None, replace(options, features=_features(images))
        place = place_of(images) if isinstance(images, str | Path | Url) else None
        found = evaluate_together(
            {"": self.runtime}, place, options, workers=workers, notify=notify, progress=progress
        )
        return found[""]


def load_model(path: Path | str | Model, *, threads: int | None = None) -> Predictor:
    """The model of a run folder, a model folder or a file of ``assay export``, ready to predict.

    Parameters
    ----------
    threads : calls that run at once; by default as many as this process has cores

    Raises
    ------
    ModelError : no model of ours, a damaged one, or one without a graph
    """
    return Predictor(load_runtime(path, threads))


def _features(given: Any) -> Path | Vectors:
    return Path(given) if isinstance(given, str | Path) else vectors_of(given)


def _is_place(text: str | Path) -> bool:
    """Whether it names many images, or a URL; also what is not there and does not look like a file."""
    path = Path(text)
    if is_url(str(text)):
        return True
    return path.is_dir() or path.suffix.lower() in PLACES or not (path.suffix or path.exists())
