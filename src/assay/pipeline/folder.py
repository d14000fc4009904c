"""RunFolder: one run holds it, and nothing is deleted in it that no run wrote."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.paths import file_digest
from assay.data.write import write_json
from assay.errors import OtherRunError, UsageError
from assay.pipeline.lock import held, read_record, sweep
from assay.pipeline.record import SCHEMA
from assay.predict.package import PACKAGE

RESULTS = (
    "noise.json",
    "labels.csv",
    "holdout.csv",
    "evaluation.json",
    "image_issues.csv",
    *(f"model/{name}" for name in PACKAGE),
)
"""All that a run writes besides run.json."""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run; see ARCHITECTURE.md for the layout."""

    path: Path

    def check(self) -> None:
        """Refuse a place that is neither free nor a run's, before anything is written to it.

        Raises
        ------
        OtherRunError : files that are not a run's
        UsageError : not a folder
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: expected a folder for the results, got a file; name a folder")
        if self.record():
            return
        compared = bool(read_record(self.path / "compare.json", SCHEMA))
        foreign = [name for name in RESULTS if (self.path / name).exists()]
        if foreign if compared else any(self.path.glob("[!.]*")):
            raise OtherRunError(
                f"{self.path}: expected an empty folder or one that holds a run, found other files; "
                "name another with --out"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep other runs out; the lock of a killed run falls with its process.

        Raises
        ------
        BusyError : another run holds the folder; the message names its process
        """
        with held(self.path, "run"):
            self._sweep()
            yield

    def record(self) -> dict[str, Any]:
        """What run.json says; empty when there is none.

        Raises
        ------
        OtherRunError : a run.json that this version of assay did not write
        """
        return read_record(self.path / "run.json", SCHEMA)

    def write(self, record: Mapping[str, Any]) -> None:
        """Put run.json in place."""
        write_json(self.path / "run.json", record)

    def outputs(self) -> dict[str, str]:
        """sha256 of each result that is there."""
        return {name: file_digest(self.path / name) for name in RESULTS if (self.path / name).is_file()}

    @property
    def checkpoints(self) -> Path:
        """The folder of what fine-tuning goes on from; gone once the run is finished."""
        return self.path / "checkpoints"

    def drop_checkpoints(self) -> None:
        """Delete them, and their folder if nothing else is there."""
        for role in ("teacher", "student"):
            (self.checkpoints / f"{role}.safetensors").unlink(missing_ok=True)
        _remove_if_empty(self.checkpoints)

    def clear(self) -> None:
        """Delete what a run wrote, and nothing else; run.json goes last, so a kill leaves a run's folder."""
        self.drop_checkpoints()
        for name in (*RESULTS, "run.json"):
            (self.path / name).unlink(missing_ok=True)
        _remove_if_empty(self.path / "model")

    def _sweep(self) -> None:
        """Delete the half files of a run that was killed while it wrote; nobody else writes here now."""
        for folder in (self.path, self.path / "model", self.checkpoints):
            sweep(folder)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
