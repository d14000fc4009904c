"""All pictures of a comparison's folder, from what its files say: whatever is not there is left out.

::

    out/pictures/      samples.svg · confusion_noisy.svg · confusion_<recipe>.svg
    out/models/<recipe>/   history.svg · layers.svg, of assay too, whose model is out/model/
"""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset
from assay.data.write import make_folder, write_text_atomic
from assay.drawing import draw_confusion
from assay.evaluate.metrics import confusion_matrix
from assay.notebook.history import draw_history
from assay.notebook.layers import draw_layers
from assay.notebook.listing import TITLES
from assay.notebook.sample_grid import draw_samples
from assay.notebook.sequential import Epoch
from assay.pipeline.outputs import HOLDOUT
from assay.predict.model import MANIFEST, read_model
from assay.types import UNKNOWN, Labels


def write_pictures(folder: Path, dataset: Dataset, held: Int[np.ndarray, "H"] | None = None) -> list[Path]:
    """Draw what the folder of a comparison holds; the files written, in the order of writing.

    Held-out images appear in ``confusion_<recipe>.svg`` alone: samples, and given against trusted, come
    from the images that were learned from.

    Parameters
    ----------
    folder : ``out/`` of ``assay compare``
    dataset : as it was read, the trusted labels of the held-out images included
    held : held-out rows, where no model was measured that tells them

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    ModelError : a model folder that is damaged
    """
    predicted = {file.parent.name: _read_predictions(file) for file in _files(folder, "holdout.csv")}
    return [
        *_write_data_pictures(folder / "pictures", dataset, _learned_from(folder, dataset, predicted, held)),
        *_write_confusions(folder / "pictures", dataset, predicted, _left_out(folder / "compare.json")),
        *_write_histories(folder),
        *_write_layers(folder),
    ]


def are_drawn(folder: Path) -> bool:
    """Whether all pictures are there: the layers of each model come last."""
    places = [folder / "models" / system / "layers.svg" for system in _models(folder)]
    return (folder / "pictures").is_dir() and all(place.is_file() for place in places)


Predicted = dict[str, str]
"""Image name -> the most probable label."""


def _files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"models/*/{name}"))


def _read_predictions(file: Path) -> Predicted:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        rows = csv.reader(opened)
        labels = next(rows)[1:]
        return {name: labels[int(np.argmax([float(p) for p in probs]))] for name, *probs in rows}


def _left_out(file: Path) -> set[str]:
    """Held-out images that the figures leave out, since their picture was learned from."""
    return set(json.loads(file.read_text(encoding="utf-8")).get("left_out", ())) if file.is_file() else set()


def _learned_from(
    folder: Path, dataset: Dataset, predicted: dict[str, Predicted], held: Int[np.ndarray, "H"] | None
) -> Labels:
    """Rows with both labels that no model was, or will be, measured on."""
    apart = {name for rows in predicted.values() for name in rows}
    apart |= _held_in_labels(folder / "labels.csv")
    if held is not None:
        apart |= {dataset.names[row] for row in held}
    known = (dataset.noisy != UNKNOWN) & (dataset.trusted != UNKNOWN) & dataset.usable
    return np.array([row for row in np.flatnonzero(known) if dataset.names[row] not in apart], dtype=np.int64)


def _held_in_labels(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        return {row["file"] for row in csv.DictReader(opened) if row["reason"] == HOLDOUT}


def _write_data_pictures(place: Path, dataset: Dataset, rows: Int[np.ndarray, "R"]) -> Iterator[Path]:
    if not len(rows):
        return
    yield _write(place / "samples.svg", draw_samples(dataset, rows))
    counts = confusion_matrix(dataset.trusted[rows], dataset.noisy[rows], len(dataset.classes))
    title = f"Given against trusted labels of {len(rows):,} images"
    drawn = draw_confusion(counts, _names(dataset), title=title, columns="noisy")
    yield _write(place / "confusion_noisy.svg", drawn)


def _write_confusions(
    place: Path, dataset: Dataset, predicted: dict[str, Predicted], left_out: set[str]
) -> Iterator[Path]:
    row_of = {name: row for row, name in enumerate(dataset.names)}
    class_of = {label: index for index, label in enumerate(dataset.classes)}
    for system, labels in predicted.items():
        rows = [row_of[name] for name in labels if name in row_of and name not in left_out]
        rows = [row for row in rows if dataset.trusted[row] != UNKNOWN]
        if not rows:
            continue
        found = np.array([class_of[labels[dataset.names[row]]] for row in rows], dtype=np.int64)
        counts = confusion_matrix(dataset.trusted[rows], found, len(dataset.classes))
        title = f"{_title(system)}: predicted against trusted labels of {len(rows):,} held-out images"
        yield _write(place / f"confusion_{system}.svg", draw_confusion(counts, _names(dataset), title=title))


def _title(system: str) -> str:
    return TITLES.get(system, system)


def _names(dataset: Dataset) -> Sequence[str]:
    return dataset.titles or dataset.classes


def _write_histories(folder: Path) -> Iterator[Path]:
    for file in _files(folder, "history.csv"):
        epochs = read_history(file)
        if epochs:
            title = f"{_title(file.parent.name)}: loss and accuracy by epoch"
            yield _write(file.with_name("history.svg"), draw_history(epochs, title=title))


def _models(folder: Path) -> dict[str, Path]:
    """Recipe -> the folder of its model; that of assay is the run's."""
    models = {file.parent.name: file.parent for file in _files(folder, MANIFEST)}
    if (folder / "models" / "assay").is_dir() and (folder / "model" / MANIFEST).is_file():
        models["assay"] = folder / "model"
    return models


def _write_layers(folder: Path) -> Iterator[Path]:
    for system, place in _models(folder).items():
        drawn = draw_layers(read_model(place), title=f"{_title(system)}: layers")
        yield _write(folder / "models" / system / "layers.svg", drawn)


def read_history(file: Path) -> tuple[Epoch, ...]:
    """The epochs in a ``history.csv``."""
    with file.open(encoding="utf-8", newline="") as opened:
        return tuple(
            Epoch(
                row["stage"],
                int(row["epoch"]),
                float(row["loss"]),
                float(row["accuracy"]),
                float(row["seconds"]),
            )
            for row in csv.DictReader(opened)
        )


def _write(file: Path, drawn: str) -> Path:
    make_folder(file.parent)
    write_text_atomic(file, drawn)
    return file
