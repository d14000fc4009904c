"""Job: a run that was asked for, before it is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.dataset import Dataset
from assay.data.split import Split
from assay.errors import OtherRunError
from assay.evaluate import Stopwatch
from assay.pipeline.folder import RunFolder
from assay.pipeline.options import RunOptions
from assay.pipeline.record import CHANGED_FILES
from assay.types import Notify, Progress


@dataclass(frozen=True)
class Job:
    """What a run was told, its labels read."""

    folder: RunFolder
    images: Path
    """Where they are."""
    options: RunOptions
    dataset: Dataset
    split: Split
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    """See ``record.data_facts``."""
    command: tuple[str, ...]
    watch: Stopwatch
    notify: Notify
    progress: Progress

    def refuse(self, differing: Sequence[str]) -> None:
        """OtherRunError if the run in the folder differs in anything."""
        if differing:
            raise OtherRunError(
                f"{self.folder.path} holds a run with {'; '.join(differing)}; "
                "name another folder with --out, or start anew with --overwrite"
            )

    def check_contents(self, record: Mapping[str, Any], digest: str) -> None:
        """OtherRunError if the images have other bytes than those that the run began with."""
        if record["data"].get("contents", digest) != digest:
            self.refuse([CHANGED_FILES])

    def keep(self, record: dict[str, Any]) -> None:
        """Write run.json, with the seconds so far: a killed run goes on from them."""
        record["seconds"] = self.watch.so_far()
        self.folder.write(record)
