"""The files of a comparison, which lie beside those of a run: nothing is deleted that no comparison wrote.

::

    out/compare.json · compare.csv · compare.md
    out/models/<recipe>/   the model package · row.json · history.csv · holdout.csv · pictures of it
    out/pictures/          of the data and of the figures

The recipe ``assay`` has its model in ``out/model/``, for it is the run of that folder.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay.data.paths import file_digest
from assay.data.write import write_json
from assay.errors import BusyError, ModelError, OtherRunError, UsageError
from assay.notebook.listing import TITLES
from assay.pipeline.folder import LOCKS, SCHEMA, RunFolder, lock, read_record, sweep
from assay.predict.model import MANIFEST, PACKAGE, package_bytes, read_files

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
"""What lies beside them."""

PICTURES = ("samples.svg", "confusion_noisy.svg", *(f"confusion_{system}.svg" for system in TITLES))

CHILD_LOCK = ".compare.child.lock"

WAIT_S = 60.0
"""For the last process of a comparison that was killed to notice it and end."""


@dataclass(frozen=True)
class CompareFolder:
    """A folder that holds a comparison, or may."""

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
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: expected a folder for the results, got a file; name a folder")
        if self.record():
            return
        foreign = [name for name in (*TABLES, "models", "pictures") if (self.path / name).exists()]
        if foreign if self.run.record() else any(self.path.glob("[!.]*")):
            raise OtherRunError(
                f"{self.path}: expected an empty folder, or one that holds a run or a comparison, "
                "found other files; name another with --out"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, keep other comparisons out, and clear away what a killed one left half done.

        Raises
        ------
        BusyError : another comparison, or a process of one, holds the folder
        """
        with lock(self.path, "comparison"):
            with self.held_by_child():
                for folder in (self.path / "pictures", *map(self.beside, TITLES)):
                    sweep(folder)
            run_lock = FileLock(self.path / LOCKS["run"][0], blocking=False)
            try:
                with run_lock:
                    sweep(self.path)
            except Timeout:
                pass  # a run is writing here: it swept when it began
            yield

    @contextmanager
    def held_by_child(self) -> Iterator[None]:
        """For the processes of a comparison: one that outlives its killed parent a moment is waited for.

        Raises
        ------
        BusyError : it does not end
        """
        child_lock = FileLock(self.path / CHILD_LOCK)
        try:
            child_lock.acquire(timeout=WAIT_S)
        except Timeout:
            raise BusyError(
                f"{self.path}: a process of an earlier comparison still works in this folder; end it, or "
                "name another folder with --out"
            ) from None
        try:
            yield
        finally:
            child_lock.release()

    def record(self) -> dict[str, Any]:
        """What compare.json says; empty when there is none.

        Raises
        ------
        OtherRunError : a compare.json that this version of assay did not write
        """
        return read_record(self.path / "compare.json", SCHEMA)

    def write(self, record: Mapping[str, Any]) -> None:
        """Put compare.json in place."""
        write_json(self.path / "compare.json", record)

    def beside(self, system: str) -> Path:
        """The folder of what was measured of a recipe."""
        return self.path / "models" / system

    def model(self, system: str) -> Path:
        """The folder of a recipe's model."""
        return self.path / "model" if system == "assay" else self.beside(system)

    def holdout(self, system: str) -> Path:
        """What a recipe's model says of the held-out images."""
        return self.beside(system) / "holdout.csv"

    def row(self, system: str) -> dict[str, Any]:
        """What row.json says of a recipe; empty when there is none."""
        return read_record(self.beside(system) / "row.json", SCHEMA)

    def write_row(self, system: str, row: Mapping[str, Any]) -> None:
        """Put row.json of a recipe in place."""
        self.beside(system).mkdir(parents=True, exist_ok=True)
        write_json(self.beside(system) / "row.json", {**row, "schema": SCHEMA})

    def forget(self, system: str) -> None:
        """Make a recipe one that is not trained: until it is learned anew it has no model and no figures."""
        place = self.beside(system)
        # The model of assay is its run's, which knows itself whether it is whole.
        for name in ("row.json", "holdout.csv", MANIFEST):
            (place / name).unlink(missing_ok=True)

    def weights(self, system: str) -> str | None:
        """sha256 of a recipe's weights; None if there is no whole model."""
        folder = self.model(system)
        try:
            read_files(folder)
        except (OSError, ModelError):
            return None
        return file_digest(folder / "model.safetensors")

    def model_bytes(self, system: str) -> int:
        """What a recipe's model weighs on disk."""
        return package_bytes(self.model(system))

    def clear(self) -> None:
        """Delete what a comparison wrote, the run aside; compare.json goes last, for it owns the others."""
        names = [*TABLES, *(f"pictures/{name}" for name in PICTURES)]
        for system in TITLES:
            names += [f"models/{system}/{name}" for name in (*PACKAGE, *BESIDE)]
        for name in (*names, "compare.json"):
            (self.path / name).unlink(missing_ok=True)
        for folder in (*map(self.beside, TITLES), self.path / "models", self.path / "pictures"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
