"""RunFolder: one run holds it, and nothing is deleted in it that no run wrote."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay._errors import BusyError, OtherRunError, ResourceError, UsageError
from assay.data.write import write_json, write_text_atomic
from assay.embed.weights import file_digest
from assay.learn.package import FILES, MANIFEST
from assay.recipes.record import SCHEMA

RESULTS = (
    "noise.json",
    "labels.csv",
    "evaluation.json",
    "skipped.csv",
    *(f"model/{name}" for name in (*FILES, MANIFEST)),
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
        if not self.record() and any(self.path.glob("[!.]*")):
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
        pid = self.path / ".pid"
        lock = FileLock(self.path / ".lock")
        with _explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise BusyError(
                    f"{self.path}: another run (process {_text(pid) or 'unknown'}) holds this folder; "
                    "wait for it, or name another folder with --out"
                ) from None
        # Apart from acquiring: a Timeout of something inside is not ours to explain.
        try:
            write_text_atomic(pid, str(os.getpid()))
            self._sweep()
            yield
        finally:
            pid.unlink(missing_ok=True)
            lock.release()

    def record(self) -> dict[str, Any]:
        """What run.json says; empty when there is none.

        Raises
        ------
        OtherRunError : a run.json that this version of assay did not write
        """
        file = self.path / "run.json"
        if not file.exists():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise OtherRunError(
                f"{file}: expected what this version of assay writes, got something else; "
                "name another folder with --out"
            )
        return found

    def write(self, record: Mapping[str, Any]) -> None:
        """Put run.json in place."""
        write_json(self.path / "run.json", record)

    def outputs(self) -> dict[str, str]:
        """sha256 of each result that is there."""
        return {name: file_digest(self.path / name) for name in RESULTS if (self.path / name).is_file()}

    def clear(self) -> None:
        """Delete what a run wrote, and nothing else; run.json goes last, so a kill leaves a run's folder."""
        for name in (*RESULTS, "run.json"):
            (self.path / name).unlink(missing_ok=True)
        if (self.path / "model").is_dir() and not any((self.path / "model").iterdir()):
            (self.path / "model").rmdir()

    def _sweep(self) -> None:
        """Delete the half files of a run that was killed while it wrote; nobody else writes here now."""
        for folder in (self.path, self.path / "model"):
            for file in folder.glob(".*.tmp"):
                file.unlink()


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write to ``path`` into ours."""
    try:
        yield
    except OSError as error:
        why = f"cannot write to {path}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"{why}; make room, then give the same command again") from error
        raise UsageError(f"{why}; name another folder with --out") from error
