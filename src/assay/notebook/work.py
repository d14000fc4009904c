"""The work on one system of a comparison: train it, then measure the saved model, each in its own process."""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.data.dataset import Dataset, PickedSource, Skipped
from assay.data.files import file_digest
from assay.data.loader import load_image
from assay.data.read import read_dataset
from assay.data.split import Split
from assay.data.write import make_folder, write_rows
from assay.errors import OtherRunError
from assay.evaluate import Stopwatch, peak_memory_bytes
from assay.notebook.folder import CompareFolder
from assay.notebook.networks import Epoch
from assay.notebook.systems import System, Task
from assay.notebook.table import comparison_card
from assay.pipeline.folder import data_facts, versions
from assay.pipeline.run import run
from assay.pipeline.run_files import read_facts
from assay.predict.batch import predict_dataset
from assay.predict.model import MANIFEST, package_bytes
from assay.predict.runtime import BATCH, Runtime, load_runtime
from assay.types import Notify, Progress, Rows

if TYPE_CHECKING:
    from assay.notebook.compare import CompareOptions

ALONE = 100
"""Images predicted one at a time; the median of their times is reported."""

TIMED = 512
"""Images predicted in batches where nothing is held out."""


@dataclass(frozen=True)
class Entry:
    """A system that takes part; plain enough to be sent to another process."""

    system: str
    function: System | None
    """None for ``assay``, which is a run in the same folder."""
    images: Path
    out: Path
    options: "CompareOptions"
    basis: Mapping[str, Any]
    """The settings and data of the whole comparison, as in compare.json."""
    overwrite: bool = False
    """Of the run, if the system is ``assay``."""
    command: tuple[str, ...] = ()

    @property
    def folder(self) -> CompareFolder:
        """Where the results go."""
        return CompareFolder(self.out)

    def is_trained(self) -> bool:
        """Whether its model is there, whole, and made with these settings from these data."""
        row = self.folder.row(self.system)
        if not row or any(row[name] != facts for name, facts in self.basis.items()):
            return False
        # A run that was repeated since is another one, even if it ended with the same bytes.
        if row["run"] != self.run_outputs():
            return False
        weights = self.folder.weights(self.system)
        return weights is not None and weights == row["weights"]

    def is_measured(self) -> bool:
        """Whether the measurements of that model are there."""
        measured, file = self.folder.row(self.system).get("measured"), self.folder.holdout(self.system)
        digest = file_digest(file) if file.is_file() else None
        return measured is not None and bool(measured["holdout"] == digest)

    def run_outputs(self) -> dict[str, str] | None:
        """sha256 of each result of ``assay``'s run; None if they are not as it wrote them, or of no run."""
        if self.function is not None:
            return None
        record = self.folder.run.record()
        return dict(record["outputs"]) if self.folder.run.is_complete(record) else None

    def read(self) -> tuple[Dataset, Split]:
        """The dataset as the comparison read it, and its split."""
        dataset = read_dataset(self.images, self.options.run.read)
        if any(self.basis["data"][name] != fact for name, fact in data_facts(dataset).items()):
            raise OtherRunError(f"{self.images}: the images or labels were changed while the comparison ran")
        return dataset, self.options.run.split(dataset)


def train(entry: Entry, notify: Notify, progress: Progress) -> None:
    """Train and save the model; row.json has the cost.

    No label of the holdout reaches a system, but for those that the published baseline trained on.
    """
    folder, system = entry.folder, entry.system
    # Until it is trained again it has no model and no figures. That of assay belongs to the run.
    for name in ("row.json", "holdout.csv", MANIFEST):
        (folder.beside(system) / name).unlink(missing_ok=True)
    if entry.function is None:
        run(
            entry.images,
            entry.out,
            entry.options.run,
            overwrite=entry.overwrite,
            command=entry.command,
            notify=notify,
            progress=progress,
        )
        record = folder.run.record()
        found = {
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
    else:
        found = _train_system(entry, entry.function, progress)
    row = {
        "system": system,
        **entry.basis,
        "weights": folder.weights(system),
        "run": entry.run_outputs(),
        "versions": versions(),
        "trained": found | {"model_bytes": package_bytes(folder.model(system))},
    }
    folder.write_row(system, row)


def _train_system(entry: Entry, function: System, progress: Progress) -> dict[str, Any]:
    """Train and save the model of one of the notebook's systems; its cost and its facts."""
    options, place, watch = entry.options, entry.folder.beside(entry.system), Stopwatch()
    with watch.stage("read"):
        dataset, split = entry.read()
        make_folder(place)
    with watch.stage("train"):
        trained = function(
            Task(
                dataset=dataset.without(split.hidden),
                held=np.isin(np.arange(len(dataset)), split.hidden),
                options=options.run,
                noisy_all=dataset.noisy,
                backbone=options.backbone,
                size=options.size,
                published=options.published,
                search=options.search,
                folder=place,
                progress=progress,
            )
        )
    with watch.stage("write"):
        facts = {**trained.model.facts, "system": entry.system, "published": options.published}
        model = replace(trained.model, facts=facts)
        model.save(place, comparison_card(model, None))
        (place / "history.csv").unlink(missing_ok=True)
        if trained.history:
            header = tuple(column.name for column in fields(Epoch))
            columns = [[getattr(epoch, name) for epoch in trained.history] for name in header]
            write_rows(place / "history.csv", header, columns)
    spent = watch.seconds
    return {
        "train_seconds": sum(spent.values()),
        # The system's own stages in place of their sum.
        "stages_s": {"read": spent["read"], **trained.seconds, "write": spent["write"]},
        "peak_memory_bytes": peak_memory_bytes(),
        "facts": facts,
    }


def measure(entry: Entry, notify: Notify, progress: Progress) -> None:
    """Predict the holdout with the saved model, and write its predictions and cost."""
    del notify  # there is nothing to report
    folder, system = entry.folder, entry.system
    dataset, split = entry.read()
    held = split.holdout
    part = rows_of(dataset, held if len(held) else np.arange(min(TIMED, len(dataset))))
    runtime = load_runtime(folder.model(system))
    for count in (1, BATCH):  # warm up
        runtime.probabilities(np.zeros((count, runtime.size, runtime.size, 3), dtype=np.uint8))
    start = time.perf_counter()
    found = predict_dataset(runtime, part, workers=entry.options.run.workers, progress=progress)
    batches_s = time.perf_counter() - start
    n_used = len(part) - found.n_skipped
    alone = list(_alone_s(runtime, part))
    digest = None
    if len(held):
        usable = np.flatnonzero([status == "ok" for status in found.statuses])
        # The shortest digits that read back to the same float32.
        columns = [[float(str(p)) for p in column] for column in found.probs[usable].T]
        # A class may be called "file" too.
        first = "file" if "file" not in found.labels else "file of the image"
        names = [found.names[row] for row in usable]
        safe = entry.options.run.excel_safe
        write_rows(folder.holdout(system), (first, *found.labels), [names, *columns], excel_safe=safe)
        digest = file_digest(folder.holdout(system))
    row = folder.row(system)
    row["measured"] = {
        "milliseconds_in_batches": 1000 * batches_s / max(n_used, 1),
        "milliseconds_alone": 1000 * statistics.median(alone) if alone else None,
        "images_in_batches": n_used,
        "images_alone": len(alone),
        "peak_memory_predicting_bytes": peak_memory_bytes(),
        "holdout": digest,
    }
    folder.write_row(system, row)


def rows_of(dataset: Dataset, rows: Rows) -> Dataset:
    """Some images of a dataset, as a dataset without decisions."""
    chosen = rows.tolist()
    return replace(
        dataset,
        names=tuple(dataset.names[row] for row in chosen),
        source=PickedSource(dataset.source, tuple(chosen)),
        noisy=dataset.noisy[rows],
        trusted=dataset.trusted[rows],
        groups=None,
        skipped={i: dataset.skipped[row] for i, row in enumerate(chosen) if row in dataset.skipped},
        decided={},
        image_warnings={},
        contents=(),
    )


def _alone_s(runtime: Runtime, part: Dataset) -> Iterator[float]:
    """Seconds from the bytes of one image to its probabilities, for each of the first usable ones."""
    left = ALONE
    for row in range(len(part)):
        data = part.read(row)
        start = time.perf_counter()  # after reading: a disk is not part of the model
        found = data if isinstance(data, Skipped) else load_image(data, runtime.target, part.limits)
        if isinstance(found, Skipped):
            continue
        runtime.probabilities(found.pixels[None])
        yield time.perf_counter() - start
        left -= 1
        if not left:
            return
