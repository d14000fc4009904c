"""compare: every system on the same data, each in processes of its own, and one table of accuracy and cost.

::

    for each system        train and save          one process: its time, its memory
                           predict the holdout     another, from the saved model alone
    then, once             read the holdout's trusted labels: all systems are measured on the same images
"""

import csv
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import Dataset, PickedSource, Skipped
from assay.data.files import file_digest
from assay.data.labels import closest
from assay.data.loader import load_image
from assay.data.read import read_dataset
from assay.data.write import make_folder, write_rows, write_text_atomic
from assay.embed.weights import check_name
from assay.errors import DataError, OtherRunError, UsageError
from assay.evaluate import Stopwatch, evaluate_predictions, mcnemar, peak_memory_bytes
from assay.notebook.folder import TABLES, CompareFolder
from assay.notebook.networks import Epoch
from assay.notebook.process import Failure, run_apart
from assay.notebook.systems import SYSTEMS, TITLES, System, Task
from assay.notebook.table import CSV_COLUMNS, RIVALS, comparison_card, csv_columns, markdown, write_figures
from assay.pipeline.finetune_split import check_enough
from assay.pipeline.folder import (
    SCHEMA,
    check_outside,
    contents_digest,
    data_facts,
    differences,
    is_interrupted,
    machine,
    read_contents,
    versions,
)
from assay.pipeline.options import RunOptions
from assay.pipeline.outputs import read_facts
from assay.pipeline.run import run
from assay.predict.batch import predict_together
from assay.predict.model import package_bytes, read_model
from assay.predict.runtime import BATCH, Runtime, load_runtime
from assay.types import Labels, Notify, Progress, Rows, ignore_message, silent

NOT_MEASURED: dict[str, Any] = dict.fromkeys(
    ("accuracy", "accuracy_low", "accuracy_high", "n", "macro_f1", "source", *RIVALS)
)
"""The figures of a system that was not measured."""

COSTS = (
    "train_seconds",
    "stages_s",
    "milliseconds_alone",
    "milliseconds_in_batches",
    "peak_memory_bytes",
    "peak_memory_predicting_bytes",
    "model_bytes",
)

ALONE = 100
"""Images predicted one at a time; the median of their times is reported."""

TIMED = 512
"""Images predicted in batches where nothing is held out."""


@dataclass(frozen=True)
class CompareOptions:
    """Settings of a comparison. Two with equal settings and data train equal models."""

    run: RunOptions = field(default_factory=RunOptions)
    """What all systems share: labels, holdout, seed, cache; and the backbone of ``assay``."""
    systems: tuple[str, ...] = tuple(TITLES)
    """Ids, in the order of ``TITLES``."""
    backbone: str | None = None
    """Of all systems that use one; None: each system's own."""
    size: int | None = None
    """Side in pixels to which their images are resized; None: each system's own."""
    published: bool = False
    """Whether to keep the notebook's defects that change results."""
    search: bool = False
    """Whether to choose the settings that the notebook chose by grid search."""

    def __post_init__(self) -> None:
        strange = [name for name in self.systems if name not in TITLES]
        if strange:
            near = closest(strange[0], tuple(TITLES))
            hint = f"did you mean {near}?" if near else f"there are {', '.join(TITLES)}"
            raise UsageError(f"--systems: expected ids of systems, got {strange[0]!r}; {hint}")
        if not self.systems:
            raise UsageError(f"--systems: expected at least one of {', '.join(TITLES)}, got none")
        object.__setattr__(self, "systems", tuple(name for name in TITLES if name in self.systems))
        if self.run.refit:
            raise UsageError(
                "--refit: a comparison measures the models that it saves; leave it out, or train on all "
                "images with --holdout 0 in another folder"
            )
        if self.run.weights is not None and self.backbone is None and "assay" not in self.systems:
            raise UsageError(
                "--weights: expected --backbone with the name of their network, or the system assay, got "
                f"neither: {', '.join(self.systems)} have networks of their own"
            )

    def settings(self) -> dict[str, Any]:
        """All that changes a row besides the data; kept in compare.json to be compared."""
        own = {
            "backbone": self.backbone,
            "size": self.size,
            "as_published": self.published,
            "search": self.search,
        }
        return self.run.settings() | own


@dataclass(frozen=True)
class Compared:
    """The result of a comparison; the same is in its folder."""

    folder: Path
    dataset: Dataset
    held: Rows
    """Holdout images."""
    record: Mapping[str, Any]
    """compare.json."""
    computed: bool = True
    """False if all of it was there already."""
    exit_code: int = 0
    """0, or that of the first system that failed."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each system, in the order of ``TITLES``."""
        return list(self.record["rows"])


def compare(  # noqa: PLR0915  # the whole comparison, in one place
    images: Path | str,
    out: Path | str,
    options: CompareOptions,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    known: Mapping[str, System] = SYSTEMS,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> Compared:
    """Train, save and measure every system of ``options``; the same call resumes a killed comparison.

    A system that fails is a row that gives the reason; the others go on.

    Parameters
    ----------
    out : folder for the results; may hold the run of the system ``assay``, or gets it
    overwrite : replace a comparison with other settings or data, or a complete one
    command : words to keep in compare.json
    known : the systems besides ``assay``; functions that another process can import
    notify : gets what was assumed about the data, and warnings

    Raises
    ------
    DataError : input that is contradictory, damaged or missing
    OtherRunError : ``out`` holds a comparison, or a run, with other settings or data and ``overwrite`` is
        not set, or other files
    BusyError : another comparison holds ``out``
    """
    images, out = Path(images), Path(out)
    folder, notify = CompareFolder(out), _once(notify)

    # Refuse what can be refused before anything is written.
    folder.check()
    check_outside(out, images)
    dataset = read_dataset(images, options.run.read)
    split = options.run.split(dataset)
    if "assay" in options.systems and options.run.preset != "fast":
        check_enough(len(split.fit))
    for note in dataset.notes:
        notify(note)

    with folder.lock():
        contents = list(read_contents(dataset, options.run.workers))
        data = data_facts(dataset) | {"contents": contents_digest(contents)}
        settings = options.settings()
        earlier = folder.record()
        if overwrite:
            # The same command with --overwrite that was interrupted resumes: hours of work may be there.
            earlier = earlier if is_interrupted(earlier, settings, data) else {}
        else:
            _refuse_other(folder, options, settings, data)
        entries = [
            Entry(
                system,
                None if system == "assay" else known[system],
                images,
                out,
                options,
                {"settings": settings, "data": data},
                overwrite and system == "assay",
                tuple(command),
            )
            for system in options.systems
        ]
        if not overwrite and _is_complete(earlier, entries):
            notify(f"{out}: comparison is already complete; use --overwrite to repeat it")
            return Compared(out, dataset, split.holdout, earlier, computed=False)

        if overwrite and not earlier:
            _clear(folder, options)
        if earlier.get("status") == "running":
            notify(f"{out}: resuming comparison")
        record = {
            "schema": SCHEMA,
            "holdout_evaluations": earlier.get("holdout_evaluations", 0),
            "status": "running",
            "command": list(command),
            "settings": settings,
            "data": data,
            "systems": list(options.systems),
            "held_out": len(split.holdout),
            "versions": versions(),
            "machine": machine(),
        }
        folder.write(record)

        # Train each system in one process, and predict with the saved model in another.
        failures = {
            entry.system: failure for entry in entries if (failure := _work_on(entry, notify, progress))
        }

        # Evaluate: only here are the trusted labels of the holdout read.
        done = [system for system in options.systems if system not in failures]
        figures: Mapping[str, Any] = {}
        record |= {"left_out": [], "skipped": len(dataset.skipped)}
        if len(split.holdout) and done:
            # Counted before the labels are read: a comparison that is killed here has read them.
            record["holdout_evaluations"] += 1
            folder.write(record)
            leaked = leaked_names(dataset, split.holdout, contents, out if "assay" in done else None)
            answers = {system: folder.holdout(system) for system in done}
            figures, left_out, skipped = evaluate_systems(dataset, split.holdout, answers, leaked)
            record |= {"left_out": left_out, "skipped": max(record["skipped"], skipped)}

        # Write the figures into each saved model, and the table; the record last.
        rows = [_row(entry, failures.get(entry.system), figures.get(entry.system, {})) for entry in entries]
        for row in rows:
            place = folder.model(row["system"])
            if row["status"] == "done" and row["system"] != "assay":  # the run wrote its own
                write_figures(place, read_model(place), row)
        record["skipped"] = max(record["skipped"], *(row["facts"].get("skipped", 0) for row in rows))
        by_run = int(folder.run.record()["holdout_evaluations"]) if "assay" in done else 0
        record |= {"rows": rows, "holdout_evaluations_by_run": by_run}
        write_rows(out / "compare.csv", CSV_COLUMNS, csv_columns(rows))
        write_text_atomic(out / "compare.md", markdown(record))
        record["status"] = "done"
        folder.write(record)
    first_code = next((failure.exit_code for failure in failures.values()), 0)
    return Compared(out, dataset, split.holdout, record, exit_code=first_code)


def _once(notify: Notify) -> Notify:
    """Each line once: every process reads the same data and has the same notes on it."""
    known = set[str]()

    def new(line: str) -> None:
        if line not in known:
            known.add(line)
            notify(line)

    return new


def _refuse_other(
    folder: CompareFolder, options: CompareOptions, settings: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """OtherRunError if the comparison in the folder, or the run of ``assay``, has other settings or data."""
    there = [("comparison", folder.record(), settings)]
    if "assay" in options.systems:
        there.append(("run", folder.run.record(), options.run.settings()))
    for what, record, wanted in there:
        differing = differences(record, wanted, data) if record else []
        if differing:
            raise OtherRunError(
                f"{folder.path} holds a {what} with {'; '.join(differing)}; "
                "name another folder with --out, or replace it with --overwrite"
            )


def _clear(folder: CompareFolder, options: CompareOptions) -> None:
    """Delete the comparison that is replaced, once the names of networks are known to be right."""
    run = options.run
    for name in ({options.backbone, run.backbone} - {"tiny"}) | {run.student}:
        if name is not None:
            check_name(name)
    folder.clear()


def _work_on(entry: "Entry", notify: Notify, progress: Progress) -> Failure | None:
    """Train and measure a system as far as it is not done yet; the reason if that fails."""
    title = TITLES[entry.system]

    def titled(stage: str, done: int, total: int) -> None:
        progress(f"{title}: {stage}", done, total)

    for is_done, work in ((entry.is_trained, train), (entry.is_measured, measure)):
        if is_done():
            continue
        found = run_apart(work, entry, notify=notify, progress=titled)
        if isinstance(found, Failure):
            notify(f"warning: {title} failed: {found.message}")
            return found
    return None


@dataclass(frozen=True)
class Entry:
    """A system that takes part; plain enough to be sent to another process."""

    system: str
    function: System | None
    """None for ``assay``, which is a run in the same folder."""
    images: Path
    out: Path
    options: CompareOptions
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
        same_run = row["run"] == (self.run_outputs() if self.function is None else None)
        weights = self.folder.weights(self.system)
        return bool(same_run and weights is not None and weights == row["weights"])

    def is_measured(self) -> bool:
        """Whether the measurements of that model are there."""
        measured, file = self.folder.row(self.system).get("measured"), self.folder.holdout(self.system)
        if measured is None:
            return False
        return bool(measured["holdout"] == (file_digest(file) if file.is_file() else None))

    def run_outputs(self) -> dict[str, str] | None:
        """sha256 of each result of the run in the folder; None if they are not as the run wrote them."""
        record = self.folder.run.record()
        return dict(record["outputs"]) if self.folder.run.is_complete(record) else None

    def read(self) -> tuple[Dataset, Rows]:
        """The dataset as the comparison read it, and its holdout.

        Raises
        ------
        OtherRunError : its labels were changed meanwhile
        """
        dataset = read_dataset(self.images, self.options.run.read)
        if any(self.basis["data"][name] != fact for name, fact in data_facts(dataset).items()):
            raise OtherRunError(f"{self.images}: the images or labels were changed while the comparison ran")
        return dataset, self.options.run.split(dataset).holdout


def _is_complete(record: Mapping[str, Any], entries: Sequence[Entry]) -> bool:
    return (
        record.get("status") == "done"
        and record["systems"] == [entry.system for entry in entries]
        and all(row["status"] == "done" for row in record["rows"])
        and all((entries[0].out / name).is_file() for name in TABLES)
        and all(entry.is_trained() and entry.is_measured() for entry in entries)
    )


def train(entry: Entry, notify: Notify, progress: Progress) -> dict[str, Any]:
    """Train and save the model; row.json has the cost. The work of a process.

    No label of the holdout reaches a system, but for those that the published baseline trained on.
    """
    folder, system, options = entry.folder, entry.system, entry.options
    place = folder.beside(system)
    folder.forget(system)
    if entry.function is None:
        run(
            entry.images,
            entry.out,
            options.run,
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
        watch = Stopwatch()
        with watch.stage("read"):
            dataset, held = entry.read()
            make_folder(place)
        with watch.stage("train"):
            trained = entry.function(
                Task(
                    dataset=dataset.without(held),
                    held=np.isin(np.arange(len(dataset)), held),
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
            facts = {**trained.model.facts, "system": system, "published": options.published}
            model = replace(trained.model, facts=facts)
            model.save(place, comparison_card(model, None))
            (place / "history.csv").unlink(missing_ok=True)
            if trained.history:
                header = tuple(column.name for column in fields(Epoch))
                columns = [[getattr(epoch, name) for epoch in trained.history] for name in header]
                write_rows(place / "history.csv", header, columns)
        spent = watch.seconds
        found = {
            "train_seconds": sum(spent.values()),
            "stages_s": {"read": spent["read"], **trained.seconds, "write": spent["write"]},
            "peak_memory_bytes": peak_memory_bytes(),
            "facts": facts,
        }
    row = {
        "system": system,
        **entry.basis,
        "weights": folder.weights(system),
        "run": entry.run_outputs() if entry.function is None else None,
        "versions": versions(),
        "trained": found | {"model_bytes": package_bytes(folder.model(system))},
    }
    folder.write_row(system, row)
    return {}


def measure(entry: Entry, notify: Notify, progress: Progress) -> dict[str, Any]:
    """Predict the holdout with the saved model, and write its predictions and cost. The work of a process."""
    del notify  # there is nothing to report
    folder, system = entry.folder, entry.system
    dataset, held = entry.read()
    part = rows_of(dataset, held if len(held) else np.arange(min(TIMED, len(dataset))))
    runtime = load_runtime(folder.model(system))
    for count in (1, BATCH):  # warm up
        runtime.probabilities(np.zeros((count, runtime.size, runtime.size, 3), dtype=np.uint8))
    start = time.perf_counter()
    found = predict_together({system: runtime}, part, workers=entry.options.run.workers, progress=progress)[
        system
    ]
    batches_s = time.perf_counter() - start
    n_used = len(part) - found.n_skipped
    alone = list(_alone_s(runtime, part))
    digest = None
    if len(held):
        usable = np.flatnonzero([status == "ok" for status in found.statuses])
        # The shortest digits that read back to the same float32.
        columns = [[float(str(p)) for p in column] for column in found.probs[usable].T]
        first = "file" if "file" not in found.labels else "file of the image"
        names = [found.names[row] for row in usable]
        write_rows(folder.holdout(system), (first, *found.labels), [names, *columns])
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
    return {}


def rows_of(dataset: Dataset, rows: Rows) -> Dataset:
    """Some images of a dataset, as a dataset."""
    chosen = tuple(rows.tolist())

    def at(known: Mapping[int, Any]) -> dict[int, Any]:
        return {i: known[row] for i, row in enumerate(chosen) if row in known}

    return replace(
        dataset,
        names=tuple(dataset.names[row] for row in chosen),
        source=PickedSource(dataset.source, chosen),
        noisy=dataset.noisy[rows],
        trusted=dataset.trusted[rows],
        skipped=at(dataset.skipped),
        decided=at(dataset.decided),
        image_warnings=at(dataset.image_warnings),
        contents=[dataset.contents[row] for row in chosen] if dataset.contents else (),
    )


def _alone_s(runtime: Runtime, part: Dataset) -> Iterator[float]:
    """Seconds from the bytes of one image to its probabilities, for each of the first usable ones."""
    left = ALONE
    for row in range(len(part)):
        data = part.read(row)
        start = time.perf_counter()
        found = data if isinstance(data, Skipped) else load_image(data, runtime.target, part.limits)
        if isinstance(found, Skipped):
            continue
        runtime.probabilities(found.pixels[None])
        yield time.perf_counter() - start
        left -= 1
        if not left:
            return


def evaluate_systems(
    dataset: Dataset, held: Rows, answers: Mapping[str, Path], leaked: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], list[str], int]:
    """Compare the predictions for the holdout with its trusted labels, all systems on the same images.

    Parameters
    ----------
    answers : system -> its holdout.csv
    leaked : images to exclude, see ``leaked_names``

    Returns
    -------
    system -> the figures of ``NOT_MEASURED``; holdout images excluded as leaked; how many could not be used

    Raises
    ------
    DataError : a holdout.csv that was changed or belongs to other images
    """
    row_of = {dataset.names[row]: row for row in held.tolist()}
    found = {system: read_answers(file, dataset.classes) for system, file in answers.items()}
    # Models of different size may skip different images; the figures are of those that all could use.
    used = [name for name in row_of if all(name in probs for probs in found.values())]
    apart = {*leaked}
    names = [name for name in used if name not in apart]
    left_out = [name for name in used if name in apart]
    skipped = len(row_of) - len(used)
    if not names:
        return {system: dict(NOT_MEASURED) for system in answers}, left_out, skipped
    truth: Labels = dataset.trusted[[row_of[name] for name in names]]
    probs = {system: np.array([rows[name] for name in names]) for system, rows in found.items()}
    predicted = {system: table.argmax(axis=1) for system, table in probs.items()}
    figures = {}
    for system in answers:
        measured = evaluate_predictions(
            truth, probs[system], dataset.titles or dataset.classes, source="holdout"
        )
        figures[system] = {
            "accuracy": measured.accuracy.estimate,
            "accuracy_low": measured.accuracy.low,
            "accuracy_high": measured.accuracy.high,
            "n": measured.n,
            "macro_f1": measured.report.macro.f1,
            "source": measured.source,
            **{
                column: mcnemar(truth, predicted[rival], predicted[system]).to_json()
                if rival in predicted and rival != system
                else None
                for column, rival in RIVALS.items()
            },
        }
    return figures, left_out, skipped


def read_answers(file: Path, classes: Sequence[str]) -> dict[str, list[float]]:
    """File -> P(class) in the order of ``classes``, of a holdout.csv that ``measure`` wrote.

    Raises
    ------
    DataError : something else
    """
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
            header, *rows = csv.reader(opened)
        order = [header.index(label, 1) for label in classes]
        return {row[0]: [float(row[place]) for place in order] for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise DataError(
            f"{file}: expected the file that a comparison wrote, got something else ({error}); delete it and "
            "run the same command again"
        ) from error


def leaked_names(
    dataset: Dataset, held: Rows, contents: Sequence[bytes | None], run_folder: Path | None
) -> set[str]:
    """Holdout images that are near-duplicates of training images: their figures would measure memory.

    Equal byte for byte; with the run of ``assay``, near-duplicates too.

    Parameters
    ----------
    contents : sha256 of each image's bytes
    """
    fit = np.setdiff1d(np.flatnonzero(dataset.usable), held)
    fitted = {contents[row] for row in fit.tolist()} - {None}
    found = {dataset.names[row] for row in held.tolist() if contents[row] in fitted}
    if run_folder is not None:
        evaluation = json.loads((run_folder / "evaluation.json").read_text(encoding="utf-8"))
        found |= {*evaluation.get("left_out", ())}
    return found


def _row(entry: Entry, failure: Failure | None, figures: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "system": entry.system,
        "title": TITLES[entry.system],
        "status": "failed" if failure else "done",
        "published": entry.options.published,
        "error": failure.message if failure else None,
        **NOT_MEASURED,
    }
    if failure:
        return row | {**dict.fromkeys(COSTS), "facts": {}}
    found = entry.folder.row(entry.system)
    known = {**found["trained"], **found["measured"]}
    return row | dict(figures) | {name: known[name] for name in (*COSTS, "facts")}
