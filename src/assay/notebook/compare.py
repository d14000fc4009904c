"""compare: every system on the same data, each in processes of its own, and one table of accuracy and cost.

::

    for each system        train and save          one process: its time, its memory
                           predict the holdout     another, from the saved model alone
    then, once             read the holdout's trusted labels: all systems are measured on the same images
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from assay.data.dataset import Dataset, ReadOptions
from assay.data.labels import closest
from assay.data.read import read_dataset
from assay.data.split import Split
from assay.data.tables import read_csv
from assay.data.write import write_rows, write_text_atomic
from assay.embed.weights import check_name
from assay.errors import DataError, OtherRunError, TableError, UsageError
from assay.evaluate import evaluate_predictions, mcnemar
from assay.notebook.folder import TABLES, CompareFolder
from assay.notebook.process import Failure, run_apart
from assay.notebook.systems import SYSTEMS, TITLES, System
from assay.notebook.table import CSV_COLUMNS, RIVALS, csv_columns, markdown, write_figures
from assay.notebook.work import Entry, measure, train
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
from assay.pipeline.holdout import check_groups
from assay.pipeline.options import RunOptions, RunSettings, default_cache
from assay.predict.model import read_model
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


def compare(
    images: Path | str,
    out: Path | str,
    *,
    trusted: Path | str,
    noisy: Path | str | None = None,
    systems: Iterable[str] = tuple(TITLES),
    read: ReadOptions | None = None,
    cache: Path | str | None = None,
    overwrite: bool = False,
    notify: Notify = ignore_message,
    progress: Progress = silent,
    **settings: Unpack[RunSettings],
) -> Compared:
    """Train the notebook's five systems and assay on the same data, and measure what each costs and reaches.

    Parameters
    ----------
    images, out, noisy, trusted, read, cache, overwrite, notify, settings : see ``assay.run``; files alone
    systems : some of ``histogram``, ``cnn-1``, ``cnn-2``, ``model-1``, ``model-2``, ``assay``

    Raises
    ------
    AssayError : see ``compare_systems``
    """
    files = replace(read or ReadOptions(), trusted=Path(trusted), noisy=Path(noisy) if noisy else None)
    run = RunOptions(read=files, cache=Path(cache) if cache else default_cache(), **settings)
    options = CompareOptions(run=run, systems=tuple(systems))
    return compare_systems(images, out, options, overwrite=overwrite, notify=notify, progress=progress)


def compare_systems(
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
    folder = CompareFolder(out)
    notify = cache(notify)  # each line once: every process reads the same data and has the same notes on it
    dataset, split = _read(images, folder, options, notify)
    with folder.lock():
        contents = list(read_contents(dataset, options.run.workers))
        data = data_facts(dataset) | {"contents": contents_digest(contents)}
        basis = {"settings": options.settings(), "data": data}
        earlier = folder.record()
        if not overwrite:
            _refuse_other(folder, options, basis)
        elif not is_interrupted(earlier, **basis):
            earlier = {}  # while the same command, interrupted, resumes: hours of work may be there
        entries = []
        for system in options.systems:
            function = None if system == "assay" else known[system]
            entries.append(Entry(system, function, images, out, options, basis, overwrite, tuple(command)))
        if not overwrite and _is_complete(earlier, entries):
            notify(f"{out}: comparison is already complete; use --overwrite to repeat it")
            return Compared(out, dataset, split.holdout, earlier, computed=False)

        if overwrite and not earlier:
            # What is there stays until the names of networks are known to be right.
            for name in ({options.backbone, options.run.backbone} - {"tiny"}) | {options.run.student}:
                if name is not None:
                    check_name(name)
            folder.clear()
        if earlier.get("status") == "running":
            notify(f"{out}: resuming comparison")
        record = {
            "schema": SCHEMA,
            "holdout_evaluations": earlier.get("holdout_evaluations", 0),
            "status": "running",
            "command": list(command),
            **basis,
            "systems": list(options.systems),
            "held_out": len(split.holdout),
            "versions": versions(),
            "machine": machine(),
            "left_out": [],
            "skipped": len(dataset.skipped),
        }
        folder.write(record)
        # Train each system in one process, and predict with the saved model in another.
        found = {entry.system: _work_on(entry, notify, progress) for entry in entries}
        failures = {system: failure for system, failure in found.items() if failure}
        # Only here are the trusted labels of the holdout read.
        done = [system for system in found if system not in failures]
        figures = _evaluate(folder, record, dataset, split.holdout, contents, done)
        _write_results(folder, record, entries, failures, figures)
    first_code = next((failure.exit_code for failure in failures.values()), 0)
    return Compared(out, dataset, split.holdout, record, exit_code=first_code)


def _read(
    images: Path, folder: CompareFolder, options: CompareOptions, notify: Notify
) -> tuple[Dataset, Split]:
    """The data and its split; what can be refused is refused before anything is written."""
    folder.check()
    check_outside(folder.path, images)
    dataset = read_dataset(images, options.run.read)
    split = options.run.split(dataset)
    check_groups(dataset, split, options.run.folds)
    if options.search and dataset.groups is not None:
        raise UsageError("--search: its folds divide groups; leave out --search or --group-col")
    if "assay" in options.systems and options.run.preset != "fast":
        check_enough(split.fit, dataset.groups)
    for note in dataset.notes:
        notify(note)
    return dataset, split


def _refuse_other(folder: CompareFolder, options: CompareOptions, basis: Mapping[str, Any]) -> None:
    """OtherRunError if the comparison in the folder, or the run of ``assay``, has other settings or data."""
    there = [("comparison", folder.record(), basis["settings"])]
    if "assay" in options.systems:
        there.append(("run", folder.run.record(), options.run.settings()))
    for what, record, wanted in there:
        differing = differences(record, wanted, basis["data"]) if record else []
        if differing:
            raise OtherRunError(
                f"{folder.path} holds a {what} with {'; '.join(differing)}; "
                "name another folder with --out, or replace it with --overwrite"
            )


def _is_complete(record: Mapping[str, Any], entries: Sequence[Entry]) -> bool:
    return (
        record.get("status") == "done"
        and record["systems"] == [entry.system for entry in entries]
        and all(row["status"] == "done" for row in record["rows"])
        and all((entries[0].out / name).is_file() for name in TABLES)
        and all(entry.is_trained() and entry.is_measured() for entry in entries)
    )


def _work_on(entry: Entry, notify: Notify, progress: Progress) -> Failure | None:
    """Train and measure a system as far as it is not done yet; the reason if that fails."""
    title = TITLES[entry.system]

    def titled(stage: str, done: int, total: int) -> None:
        progress(f"{title}: {stage}", done, total)

    for is_done, work in ((entry.is_trained, train), (entry.is_measured, measure)):
        if is_done():
            continue
        failure = run_apart(work, entry, notify=notify, progress=titled)
        if failure:
            notify(f"warning: {title} failed: {failure.message}")
            return failure
    return None


def _evaluate(
    folder: CompareFolder,
    record: dict[str, Any],
    dataset: Dataset,
    held: Rows,
    contents: Sequence[bytes | None],
    done: Sequence[str],
) -> Mapping[str, Any]:
    """The figures of the systems that are done; ``record`` counts the evaluation, and names leaked images."""
    if not len(held) or not done:
        return {}
    # Counted before the labels are read: a comparison that is killed here has read them.
    record["holdout_evaluations"] += 1
    folder.write(record)
    leaked = leaked_names(dataset, held, contents, folder.path if "assay" in done else None)
    answers = {system: folder.holdout(system) for system in done}
    figures, record["left_out"], skipped = evaluate_systems(dataset, held, answers, leaked)
    record["skipped"] = max(record["skipped"], skipped)
    return figures


def _write_results(
    folder: CompareFolder,
    record: dict[str, Any],
    entries: Sequence[Entry],
    failures: Mapping[str, Failure],
    figures: Mapping[str, Any],
) -> None:
    """Write the figures into each saved model, then the tables; compare.json last."""
    rows = [_row(entry, failures.get(entry.system), figures.get(entry.system, {})) for entry in entries]
    by_run = 0
    for row in rows:
        if row["status"] != "done":
            continue
        if row["system"] == "assay":  # its run wrote its own figures
            by_run = int(folder.run.record()["holdout_evaluations"])
        else:
            place = folder.model(row["system"])
            write_figures(place, read_model(place), row)
    record["skipped"] = max(record["skipped"], *(row["facts"].get("skipped", 0) for row in rows))
    record |= {"rows": rows, "holdout_evaluations_by_run": by_run}
    safe = bool(record["settings"].get("excel_safe"))
    write_rows(folder.path / "compare.csv", CSV_COLUMNS, csv_columns(rows), excel_safe=safe)
    write_text_atomic(folder.path / "compare.md", markdown(record))
    record["status"] = "done"
    folder.write(record)


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


def evaluate_systems(
    dataset: Dataset, held: Rows, answers: Mapping[str, Path], leaked: Collection[str]
) -> tuple[dict[str, dict[str, Any]], list[str], int]:
    """Compare the predictions for the holdout with its trusted labels, all systems on the same images.

    Parameters
    ----------
    answers : system -> its holdout.csv
    leaked : images to exclude

    Returns
    -------
    system -> the figures of ``NOT_MEASURED``; holdout images excluded as leaked; how many could not be used
    """
    row_of = {dataset.names[row]: row for row in held.tolist()}
    found = {system: read_answers(file, dataset.classes) for system, file in answers.items()}
    # Models of different size may skip different images; the figures are of those that all could use.
    used = [name for name in row_of if all(name in probs for probs in found.values())]
    names = [name for name in used if name not in leaked]
    left_out = [name for name in used if name in leaked]
    skipped = len(row_of) - len(used)
    if not names:
        return {system: dict(NOT_MEASURED) for system in answers}, left_out, skipped
    rows = [row_of[name] for name in names]
    truth: Labels = dataset.trusted[rows]
    groups = None if dataset.groups is None else dataset.groups[rows]
    probs = {system: np.array([rows[name] for name in names]) for system, rows in found.items()}
    predicted = {system: table.argmax(axis=1) for system, table in probs.items()}
    figures = {}
    for system in answers:
        measured = evaluate_predictions(
            truth, probs[system], dataset.titles or dataset.classes, source="holdout", groups=groups
        )
        figures[system] = {
            "accuracy": measured.accuracy.estimate,
            "accuracy_low": measured.accuracy.low,
            "accuracy_high": measured.accuracy.high,
            "n": measured.n,
            "macro_f1": measured.report.macro.f1,
            "source": measured.source,
            **{
                column: mcnemar(truth, predicted[rival], predicted[system], groups=groups).to_json()
                if rival in predicted and rival != system
                else None
                for column, rival in RIVALS.items()
            },
        }
    return figures, left_out, skipped


def read_answers(file: Path, classes: Sequence[str]) -> dict[str, list[float]]:
    """File -> P(class) in the order of ``classes``, of a holdout.csv that ``measure`` wrote."""
    try:
        table = read_csv(file, classes)
        order = [(table.columns or ()).index(label, 1) for label in classes]
        return {row[0]: [float(row[place]) for place in order] for row in table.rows}
    except (TableError, ValueError) as error:
        raise DataError(
            f"{file}: expected the file that a comparison wrote, got something else ({error}); delete it and "
            "run the same command again"
        ) from error


def leaked_names(
    dataset: Dataset, held: Rows, contents: Sequence[bytes | None], run_folder: Path | None
) -> set[str]:
    """Holdout images that are near-duplicates of training images: their figures would measure memory.

    Equal byte for byte, by the sha256 in ``contents``; near-duplicates too, where ``assay`` looked for them.
    """
    hidden = held if dataset.groups is None else np.isin(dataset.groups, dataset.groups[held]).nonzero()[0]
    fit = np.setdiff1d(np.flatnonzero(dataset.usable), hidden)
    fitted = {contents[row] for row in fit.tolist()} - {None}  # two unreadable images are not equal
    found = {dataset.names[row] for row in held.tolist() if contents[row] in fitted}
    if run_folder is not None:
        evaluation = json.loads((run_folder / "evaluation.json").read_text(encoding="utf-8"))
        found |= {*evaluation.get("left_out", ())}
    return found
