"""compare: every recipe on the same data, each in processes of its own, and one table of what it is worth.

::

    for each recipe        train and save          one process: its time, its memory
                           predict the holdout     another, from the saved model alone
    then, once             open the seal           who was right where, on the same images for all
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.data.dataset import Dataset
from assay.data.read import read_dataset
from assay.embed.weights import check_name
from assay.errors import OtherRunError
from assay.notebook.compare_entry import Entry, train
from assay.notebook.compare_folder import CompareFolder
from assay.notebook.compare_measure import measure
from assay.notebook.compare_options import CompareOptions
from assay.notebook.compare_result import Compared, conclude, finished
from assay.notebook.compare_twin import check_apart_from, twin_rows
from assay.notebook.listing import SYSTEMS, TITLES
from assay.notebook.process import Failure, run_apart
from assay.notebook.task import System
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
from assay.types import Labels, Notify, Progress, ignore_message, silent


def compare(
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
    """Train, save and measure every recipe of ``options``; the same call resumes a killed comparison.

    A recipe that fails is a row that says why; the others go on.

    Parameters
    ----------
    out : folder for the results; may hold the run of the recipe ``assay``, or get it
    overwrite : start anew where another comparison was, or this one to its end
    command : words to keep in compare.json
    known : what the ids other than ``assay`` stand for; functions that another process can import
    notify : is told what was assumed about the data, and warnings

    Raises
    ------
    DataError : input that cannot be trusted to mean what it says
    OtherRunError : ``out`` holds a comparison, or a run, with other settings or data and ``overwrite`` is
        not set, or other files
    BusyError : another comparison holds ``out``
    """
    job = _ask(Path(images), Path(out), options, _once(notify))
    with job.folder.held():
        contents = list(read_contents(job.dataset, options.run.workers))
        job = replace(job, data={**job.data, "contents": contents_digest(contents)})
        record = job.begun(overwrite)
        twin = twin_rows(options, job.settings, job.data)
        entries = list(job.entries(known, overwrite, tuple(command)))
        if not overwrite and finished(record, entries):
            notify(f"{out}: this very comparison is finished: nothing was computed; --overwrite starts anew")
            return Compared(job.folder.path, job.dataset, record, computed=False)
        record = job.start(record, overwrite, command)
        failures = {entry.system: found for entry in entries if (found := job.do(entry, progress))}
        return conclude(
            job.folder,
            job.dataset,
            job.held,
            contents,
            record,
            entries=entries,
            failures=failures,
            twin=twin,
        )


@dataclass(frozen=True)
class _Job:
    """A comparison that was asked for, its labels read."""

    images: Path
    folder: CompareFolder
    options: CompareOptions
    dataset: Dataset
    held: Labels
    """The held-out rows."""
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    notify: Notify

    def begun(self, overwrite: bool) -> dict[str, Any]:
        """What compare.json says of this comparison so far; empty if it is to be begun.

        Raises
        ------
        OtherRunError : what is there differs, or so does the run that would be the recipe ``assay``
        """
        record = self.folder.record()
        if overwrite:
            return record if is_interrupted(record, self.settings, self.data) else {}
        if record:
            self._refuse("comparison", differences(record, self.settings, self.data))
        run = self.folder.run.record() if "assay" in self.options.systems else {}
        if run:
            self._refuse("run", differences(run, self.options.run.settings(), self.data))
        return record

    def _refuse(self, what: str, differing: Sequence[str]) -> None:
        if differing:
            raise OtherRunError(
                f"{self.folder.path} holds a {what} with {'; '.join(differing)}; "
                "name another folder with --out, or start anew with --overwrite"
            )

    def entries(
        self, known: Mapping[str, System], overwrite: bool, command: tuple[str, ...]
    ) -> Iterator[Entry]:
        """Those that take part, in the order of the table."""
        for system in self.options.systems:
            is_assay = system == "assay"
            yield Entry(
                system,
                None if is_assay else known[system],
                self.images,
                self.folder.path,
                self.options,
                self.settings,
                self.data,
                overwrite and is_assay,
                command,
            )

    def start(self, record: dict[str, Any], overwrite: bool, command: Sequence[str]) -> dict[str, Any]:
        """Begin compare.json, or go on with it."""
        if overwrite and not record:
            run = self.options.run
            # Or all models that are there would be deleted for a slip of the pen.
            for name in ({self.options.backbone, run.backbone} - {"tiny"}) | {run.student}:
                if name is not None:
                    check_name(name)
            self.folder.clear()
        if record and record["status"] == "running":
            self.notify(f"{self.folder.path}: going on with the comparison that was begun here")
        record = {
            "schema": SCHEMA,
            "holdout_evaluations": record.get("holdout_evaluations", 0),
            "status": "running",
            "command": list(command),
            "settings": dict(self.settings),
            "data": dict(self.data),
            "systems": list(self.options.systems),
            "held_out": len(self.held),
            "versions": versions(),
            "machine": machine(),
        }
        self.folder.write(record)
        return record

    def do(self, entry: Entry, progress: Progress) -> Failure | None:
        """What is left to do of a recipe, in processes of its own; why not, if it failed."""

        def told(stage: str, done: int, total: int) -> None:
            progress(f"{TITLES[entry.system]}: {stage}", done, total)

        for is_done, work in ((entry.is_trained, train), (entry.is_measured, measure)):
            if is_done():
                continue
            found = run_apart(work, entry, notify=self.notify, progress=told)
            if isinstance(found, Failure):
                self.notify(f"warning: {TITLES[entry.system]} failed: {found.message}")
                return found
        return None


def _ask(images: Path, out: Path, options: CompareOptions, notify: Notify) -> _Job:
    """All that can be refused before anything is written."""
    folder = CompareFolder(out)
    folder.check()
    check_outside(out, images)
    if options.figures_from is not None:
        check_apart_from(options.figures_from, out)
    dataset = read_dataset(images, options.run.read)
    split = options.run.split(dataset)
    if "assay" in options.systems and options.run.preset != "fast":
        check_enough(len(split.fit))
    settings, data = options.settings(), data_facts(dataset)
    twin_rows(options, settings, data)  # asked again once the bytes of the images are known
    for note in dataset.notes:
        notify(note)
    return _Job(images, folder, options, dataset, split.holdout, settings, data, notify)


def _once(notify: Notify) -> Notify:
    """Each line once: every process of a comparison reads the same data and has the same to say of it."""
    said: set[str] = set()

    def new(line: str) -> None:
        if line not in said:
            said.add(line)
            notify(line)

    return new
