"""One recipe of a comparison: trained in one process, measured in another from what was saved.

Neither reads a trusted label of the holdout: measuring writes what the model says of those images, and
the comparison, once all recipes are done, looks whether it is right.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import Dataset
from assay.data.paths import file_digest
from assay.data.read import read_dataset
from assay.data.write import write_rows
from assay.errors import OtherRunError
from assay.evaluate import Stopwatch, peak_memory_bytes
from assay.notebook.compare_card import comparison_card
from assay.notebook.compare_folder import CompareFolder
from assay.notebook.compare_options import CompareOptions
from assay.notebook.task import System, Task, Trained
from assay.pipeline.folder import RunFolder, data_facts, versions
from assay.pipeline.outputs import read_facts
from assay.pipeline.run import run
from assay.types import Notify, Progress

HISTORY_COLUMNS = ("stage", "epoch", "loss", "accuracy", "seconds")


@dataclass(frozen=True)
class Entry:
    """A recipe that takes part; plain enough to be sent to another process."""

    system: str
    learn: System | None
    """None for assay, which is a run of its own in the same folder."""
    images: Path
    out: Path
    options: CompareOptions
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    """What the rows of the comparison have in common: settings and data."""
    overwrite: bool = False
    """Of the run, if the recipe is assay."""
    command: tuple[str, ...] = ()

    @property
    def folder(self) -> CompareFolder:
        """Where the results go."""
        return CompareFolder(self.out)

    def is_trained(self) -> bool:
        """Whether its model is there, whole, and made with these settings from these data."""
        row, run = self.folder.row(self.system), self.folder.run
        if not row or row["settings"] != self.settings or row["data"] != self.data:
            return False
        # A run that was done again since is another one, even if it ended in the same bytes.
        same_run = row["run"] == (_run_outputs(run) if self.learn is None else None)
        weights = self.folder.weights(self.system)
        return bool(same_run and weights is not None and weights == row["weights"])

    def is_measured(self) -> bool:
        """Whether what was measured of that model is there."""
        measured, file = self.folder.row(self.system).get("measured"), self.folder.holdout(self.system)
        if measured is None:
            return False
        return bool(measured["holdout"] == (file_digest(file) if file.is_file() else None))


def _run_outputs(run: RunFolder) -> dict[str, str] | None:
    """sha256 of each result of a finished run; None if it is not there as it was written."""
    record = run.record()
    whole = record.get("status") == "done" and record["outputs"] == run.outputs()
    return dict(record["outputs"]) if whole else None


def train(entry: Entry, notify: Notify, progress: Progress) -> dict[str, Any]:
    """Learn and save the model; row.json says what it took. The work of a process."""
    with entry.folder.held_by_child():
        entry.folder.forget(entry.system)
        found = _run_assay(entry, notify, progress) if entry.learn is None else _learn(entry, progress)
        row = {
            "system": entry.system,
            "settings": dict(entry.settings),
            "data": dict(entry.data),
            "weights": entry.folder.weights(entry.system),
            "run": _run_outputs(entry.folder.run) if entry.learn is None else None,
            "versions": versions(),
            "trained": found | {"model_bytes": entry.folder.model_bytes(entry.system)},
        }
        entry.folder.write_row(entry.system, row)
    return {}


def _run_assay(entry: Entry, notify: Notify, progress: Progress) -> dict[str, Any]:
    run(
        entry.images,
        entry.out,
        entry.options.run,
        overwrite=entry.overwrite,
        command=entry.command,
        notify=notify,
        progress=progress,
    )
    record = entry.folder.run.record()
    return {
        "train_seconds": record["cost"]["seconds"],
        "stages_s": record["seconds"],
        "peak_memory_bytes": record["cost"]["peak_memory_bytes"],
        "facts": {
            "backbone": record["backbone"]["name"],
            "size": record["backbone"]["size"],
            "features_computed": record.get("features_computed"),
            "skipped": read_facts(entry.out)["skipped"],
        },
    }


def _learn(entry: Entry, progress: Progress) -> dict[str, Any]:
    assert entry.learn is not None
    watch, place = Stopwatch(), entry.folder.beside(entry.system)
    with watch.stage("read"):
        task = make_task(entry, read_again(entry), progress)
        place.mkdir(parents=True, exist_ok=True)
    with watch.stage("learn"):
        trained = entry.learn(task)
    with watch.stage("write"):
        _save(entry, trained)
    spent = watch.seconds
    return {
        "train_seconds": sum(spent.values()),
        "stages_s": {"read": spent["read"], **trained.seconds, "write": spent["write"]},
        "peak_memory_bytes": peak_memory_bytes(),
        "facts": dict(trained.model.facts),
    }


def read_again(entry: Entry) -> Dataset:
    """The dataset, as the comparison read it.

    Raises
    ------
    OtherRunError : its labels were changed meanwhile
    """
    dataset = read_dataset(entry.images, entry.options.run.read)
    if any(entry.data[name] != fact for name, fact in data_facts(dataset).items()):
        raise OtherRunError(f"{entry.images}: the images or labels were changed while the comparison ran")
    return dataset


def make_task(entry: Entry, dataset: Dataset, progress: Progress) -> Task:
    """What the recipe may know: of the holdout no label at all, but for what the notebook let it see."""
    options, rows = entry.options, held_rows(entry.options, dataset)
    return Task(
        dataset=dataset.without(rows),
        held=np.isin(np.arange(len(dataset)), rows),
        options=options.run,
        noisy_all=dataset.noisy,
        backbone=options.backbone,
        size=options.size,
        published=options.published,
        search=options.search,
        folder=entry.folder.beside(entry.system),
        progress=progress,
    )


def held_rows(options: CompareOptions, dataset: Dataset) -> np.ndarray:
    """The rows that are held out, ascending."""
    return options.run.split(dataset).holdout


def _save(entry: Entry, trained: Trained) -> None:
    place = entry.folder.beside(entry.system)
    facts = {**trained.model.facts, "system": entry.system, "published": entry.options.published}
    model = replace(trained.model, facts=facts)
    model.save(place, comparison_card(model, None))
    (place / "history.csv").unlink(missing_ok=True)
    if trained.history:
        epochs = [asdict(epoch) for epoch in trained.history]
        columns = [[epoch[name] for epoch in epochs] for name in HISTORY_COLUMNS]
        write_rows(place / "history.csv", HISTORY_COLUMNS, columns)
