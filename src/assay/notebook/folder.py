"""The folder of a comparison: its files, and its models on other images.

::

    out/compare.json · compare.csv · compare.md
    out/models/<system>/   the model · row.json · history.csv · holdout.csv · pictures of it
    out/pictures/          of the data and of the figures

They lie beside the files of a run, whose model, ``out/model/``, is that of ``assay``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from assay.data.dataset import Dataset, ReadOptions
from assay.data.files import file_digest
from assay.data.place import Place
from assay.data.read import read_images
from assay.data.write import make_folder, write_json
from assay.errors import ModelError, UsageError
from assay.evaluate import Evaluation
from assay.notebook.systems import TITLES
from assay.pipeline.folder import LOCKS, SCHEMA, RunFolder, check_place, lock, read_record, sweep
from assay.predict.batch import predict_together
from assay.predict.model import MANIFEST, PACKAGE, read_files
from assay.predict.runtime import load_runtime
from assay.predict.test_set import common_statuses, evaluate_together
from assay.types import Notify, Progress, ignore_message, silent

TABLES = ("compare.csv", "compare.md")

BESIDE = (
    "row.json",
    "history.csv",
    "history.svg",
    "layers.svg",
    "holdout.csv",
    "search.json",
    "search.csv",
)
"""Files beside each system's model."""

PICTURES = ("samples.svg", "confusion_noisy.svg", *(f"confusion_{system}.svg" for system in TITLES))

INDEX = "Index"
"""Column of the names of images, as the notebook called it."""


@dataclass(frozen=True)
class CompareFolder:
    """A folder that holds a comparison, or may. Nothing is deleted that no comparison wrote."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The run in the same folder, if there is one."""
        return RunFolder(self.path)

    def check(self) -> None:
        """Refuse a place that is neither free nor ours, before anything is written."""
        names = (*TABLES, "models", "pictures")
        expected = "an empty folder, or one that holds a run or a comparison"
        check_place(self.path, "compare.json", "run.json", names, expected)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder, keep other comparisons out, and delete what a killed one left half written."""
        with lock(self.path, "comparison"):
            for folder in (self.path / "pictures", *map(self.beside, TITLES)):
                sweep(folder)
            try:
                with FileLock(self.path / LOCKS["run"][0], blocking=False):
                    sweep(self.path)
            except Timeout:
                pass  # a run is writing here, which swept when it began
            yield

    def record(self) -> dict[str, Any]:
        """compare.json; empty where there is none."""
        return read_record(self.path / "compare.json")

    def write(self, record: Mapping[str, Any]) -> None:
        """Put compare.json in place."""
        write_json(self.path / "compare.json", record)

    def beside(self, system: str) -> Path:
        """The folder of what was measured of a system."""
        return self.path / "models" / system

    def model(self, system: str) -> Path:
        """The folder of a system's model."""
        return self.path / "model" if system == "assay" else self.beside(system)

    def holdout(self, system: str) -> Path:
        """The predictions of a system's model for the holdout images."""
        return self.beside(system) / "holdout.csv"

    def row(self, system: str) -> dict[str, Any]:
        """row.json of a system; empty where there is none."""
        return read_record(self.beside(system) / "row.json")

    def write_row(self, system: str, row: Mapping[str, Any]) -> None:
        """Put row.json of a system in place."""
        make_folder(self.beside(system))
        write_json(self.beside(system) / "row.json", {**row, "schema": SCHEMA})

    def weights(self, system: str) -> str | None:
        """sha256 of a system's weights; None if there is no whole model."""
        folder = self.model(system)
        try:
            read_files(folder)
        except (OSError, ModelError):
            return None
        return file_digest(folder / "model.safetensors")

    def models(self) -> dict[str, Path]:
        """System -> the folder of its model, in the order of ``TITLES``, without systems that failed."""
        failed = {row["system"] for row in self.record().get("rows", ()) if row["status"] == "failed"}
        places = {system: self.model(system) for system in TITLES if system not in failed}
        found = {system: place for system, place in places.items() if (place / MANIFEST).is_file()}
        if not found:
            raise ModelError(
                f"{self.path}: expected the folder of a comparison, with the models of its systems, "
                "found none"
            )
        return found

    def clear(self) -> None:
        """Delete what a comparison wrote, not the run; compare.json last, so a kill leaves a comparison."""
        names = [*TABLES, *(f"pictures/{name}" for name in PICTURES)]
        for system in TITLES:
            names += [f"models/{system}/{name}" for name in (*PACKAGE, *BESIDE)]
        for name in (*names, "compare.json"):
            (self.path / name).unlink(missing_ok=True)
        for folder in (*map(self.beside, TITLES), self.path / "models", self.path / "pictures"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@dataclass(frozen=True)
class Lineup:
    """Predictions of several models for the same images: the notebook's table, and its last cell."""

    names: tuple[str, ...]
    """Of the images, in the order of the input."""
    header: tuple[str, ...]
    """The columns: ``INDEX`` and titles of systems."""
    columns: list[list[object]]
    """Labels as they came in, None where the image could not be used. ``INDEX`` has the stems of the files,
    or, where two are equal, the whole names."""
    has_stems: bool
    n_skipped: int
    """Images for which some model has no prediction."""


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
    columns : ``INDEX`` and titles or ids of systems, in the order to write them; None for all there are
    """
    places = CompareFolder(folder).models()
    there = (INDEX, *(TITLES[system] for system in places))
    header = there if columns is None else tuple(TITLES.get(column, column) for column in columns)
    strange = [title for title in header if title not in there]
    if strange:
        raise UsageError(
            f"--columns: expected columns that exist, got {strange[0]!r}; {folder} has {', '.join(there)}"
        )
    if len(set(header)) < len(header) or {*header} <= {INDEX}:  # an index alone needs no model
        raise UsageError(f"--columns: expected systems, each once, got {', '.join(header)}")
    # Only the named systems are computed.
    runtimes = {TITLES[name]: load_runtime(place) for name, place in places.items() if TITLES[name] in header}
    dataset = images if isinstance(images, Dataset) else read_images(images)
    found = predict_together(runtimes, dataset, workers=workers, progress=progress)
    stems = [PurePosixPath(name).stem for name in dataset.names]
    has_stems = len(set(stems)) == len(stems)
    cells: dict[str, list[object]] = {title: list(one.predicted) for title, one in found.items()}
    cells[INDEX] = list(stems if has_stems else dataset.names)
    n_skipped = sum(status != "ok" for status in common_statuses(found))
    return Lineup(dataset.names, header, [cells[title] for title in header], has_stems, n_skipped)


def evaluate_lineup(
    folder: Path,
    images: Place | None,
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
    """
    runtimes = {system: load_runtime(place) for system, place in CompareFolder(folder).models().items()}
    return evaluate_together(runtimes, images, options, workers=workers, notify=notify, progress=progress)
