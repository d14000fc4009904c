"""CompareFolder: the files of a comparison, which lie beside those of a run.

::

    out/compare.json · compare.csv · compare.md
    out/models/<system>/   the model · row.json · history.csv · holdout.csv · pictures of it
    out/pictures/          of the data and of the figures

The model of ``assay`` is that of the run: ``out/model/``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay.data.files import file_digest
from assay.data.write import make_folder, write_json
from assay.errors import ModelError
from assay.notebook.systems import TITLES
from assay.pipeline.folder import LOCKS, SCHEMA, RunFolder, check_place, lock, read_record, sweep
from assay.predict.model import MANIFEST, PACKAGE, read_files

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


@dataclass(frozen=True)
class CompareFolder:
    """A folder that holds a comparison, or may. Nothing is deleted that no comparison wrote."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The run in the same folder, if there is one."""
        return RunFolder(self.path)

    def check(self) -> None:
        """Refuse a place that is neither free, nor a run's, nor a comparison's, before anything is written.

        Raises
        ------
        OtherRunError : files that are neither a run's nor a comparison's
        UsageError : not a folder
        """
        names = (*TABLES, "models", "pictures")
        expected = "an empty folder, or one that holds a run or a comparison"
        check_place(self.path, "compare.json", "run.json", names, expected)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder, keep other comparisons out, and delete what a killed one left half written.

        Raises
        ------
        BusyError : another comparison holds the folder
        """
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
        """compare.json; empty where there is none.

        Raises
        ------
        OtherRunError : a compare.json that this version of assay did not write
        """
        return read_record(self.path / "compare.json", SCHEMA)

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
        return read_record(self.beside(system) / "row.json", SCHEMA)

    def write_row(self, system: str, row: Mapping[str, Any]) -> None:
        """Put row.json of a system in place."""
        make_folder(self.beside(system))
        write_json(self.beside(system) / "row.json", {**row, "schema": SCHEMA})

    def forget(self, system: str) -> None:
        """Until it is trained again a system has no model and no figures."""
        # The model of assay is its run's, which knows itself whether it is whole.
        for name in ("row.json", "holdout.csv", MANIFEST):
            (self.beside(system) / name).unlink(missing_ok=True)

    def weights(self, system: str) -> str | None:
        """sha256 of a system's weights; None if there is no whole model."""
        folder = self.model(system)
        try:
            read_files(folder)
        except (OSError, ModelError):
            return None
        return file_digest(folder / "model.safetensors")

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
