"""RunFolder: one run holds it, the same command resumes it, another is refused."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay._errors import BusyError, DataError, OtherRunError
from assay.data.write import write_json

OURS = ("run.json", "noise.json", "labels.csv", "evaluation.json", "skipped.csv")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run; see ARCHITECTURE.md for the layout."""

    path: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out; the lock of a killed run falls with its process.

        Raises
        ------
        BusyError : another run holds the folder; the message names its process
        """
        self.path.mkdir(parents=True, exist_ok=True)
        holder = self.path / ".lock"
        try:
            with FileLock(holder, timeout=0):
                (self.path / ".pid").write_text(str(os.getpid()))
                yield
        except Timeout:
            pid = (self.path / ".pid").read_text() if (self.path / ".pid").exists() else "unknown"
            raise BusyError(
                f"{self.path}: another run (process {pid}) holds this folder; "
                "wait for it, or name another with --out"
            ) from None

    def record(self) -> dict[str, Any]:
        """What run.json says; empty when the folder holds no run."""
        file = self.path / "run.json"
        if not file.exists():
            return {}
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(
                f"{file}: expected JSON, got something else ({error}); give --overwrite to start anew"
            ) from error
        return found

    def open(self, settings: Mapping[str, object], data: str, *, overwrite: bool) -> dict[str, Any]:
        """Start or resume: the record so far, whose settings and data are the ones asked for.

        Raises
        ------
        OtherRunError : the folder holds a run with other settings or data, or files that are not a run's
        """
        record = self.record()
        if overwrite:
            self.clear()
            record = {}
        elif not record and any(self.path.glob("[!.]*")):
            raise OtherRunError(
                f"{self.path}: expected an empty folder or a run, found other files; name another with --out"
            )
        differing = [
            f"{name} {record['settings'].get(name)!r} there, {value!r} now"
            for name, value in settings.items()
            if record and record["settings"].get(name) != value
        ]
        if record and record["data"] != data:
            differing.append("images or labels that were different")
        if differing:
            raise OtherRunError(
                f"{self.path} holds a run with {'; '.join(differing)}; "
                "name another folder with --out, or give --overwrite"
            )
        return record or {"settings": dict(settings), "data": data, "status": "running", "seal_opened": 0}

    def write(self, record: Mapping[str, Any]) -> None:
        """Put run.json in place."""
        write_json(self.path / "run.json", record)

    def clear(self) -> None:
        """Delete what a run wrote, and nothing else."""
        for name in OURS:
            (self.path / name).unlink(missing_ok=True)
        for file in (self.path / "model").glob("*"):
            file.unlink()
