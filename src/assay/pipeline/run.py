"""run: the whole job, from a folder of images to a folder of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.data.read import read_dataset
from assay.errors import DataError, UsageError
from assay.evaluate import Stopwatch
from assay.pipeline.carried import check_apart_from, partial_run
from assay.pipeline.finetune_split import check_enough
from assay.pipeline.folder import RunFolder
from assay.pipeline.holdout import check_learnable
from assay.pipeline.job import Job
from assay.pipeline.lock import check_outside
from assay.pipeline.options import RunOptions
from assay.pipeline.record import (
    contents_digest,
    data_facts,
    differences,
    is_interrupted,
    read_contents,
)
from assay.pipeline.result import RunResult
from assay.pipeline.work import work
from assay.types import Notify, Progress, ignore_message, silent


def run(
    images: Path | str,
    out: Path | str,
    options: RunOptions | None = None,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> RunResult:
    """Learn from ``images`` and write all results to ``out``; the same call resumes a killed run.

    A finished run is computed again, from cached features and to the same bytes.

    Parameters
    ----------
    overwrite : start anew where another run was, or this one to its end
    command : words to keep in run.json
    notify : is told what was assumed about the data, and warnings

    Raises
    ------
    DataError : input that cannot be trusted to mean what it says
    OtherRunError : ``out`` holds a run with other settings or data and ``overwrite`` is not set, or files
        that are not a run's
    BusyError : another run holds ``out``
    ResourceError : disk or memory ran out; the same call goes on from there
    """
    job = _ask(Path(images), Path(out), options or RunOptions(), command, notify, progress)
    with job.folder.held():
        return _work(job, _begun(job, overwrite))


def prepare(
    images: Path, out: Path, options: RunOptions, *, overwrite: bool = False, notify: Notify = ignore_message
) -> tuple[Job, dict[str, Any]]:
    """The job that ``run`` would do, and what run.json says of it so far; writes nothing and takes no lock.

    Raises
    ------
    AssayError : as ``run``, for all that is refused before anything is computed
    """
    job = _ask(images, out, options, (), notify, silent)
    return job, _begun(job, overwrite)


def ensure_run(
    images: Path | str,
    out: Path | str,
    options: RunOptions,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> bool:
    """As ``run``, but a finished run is left as it is: False if there was nothing to compute."""
    job = _ask(Path(images), Path(out), options, command, notify, progress)
    with job.folder.held():
        record = _begun(job, overwrite)
        if record.get("status") == "done" and record["outputs"] == job.folder.outputs():
            job.check_contents(record, contents_digest(read_contents(job.dataset, options.workers)))
            notify(f"{out}: this very run is finished: nothing was computed; --overwrite starts anew")
            return False
        _work(job, record)
        return True


def _ask(
    images: Path, out: Path, options: RunOptions, command: Sequence[str], notify: Notify, progress: Progress
) -> Job:
    """All that can be refused before anything is written."""
    folder, watch = RunFolder(out), Stopwatch()
    folder.check()
    check_outside(out, images)
    with watch.stage("read"):
        dataset = read_dataset(images, options.read)
    for note in dataset.notes:
        notify(note)
    split = options.split(dataset)
    check_learnable(dataset, split)
    if options.preset != "fast":
        check_enough(len(split.fit))
    settings, data = options.settings(), data_facts(dataset)
    if options.figures_from is not None:
        check_apart_from(options.figures_from, out)
        partial_run(options.figures_from, settings, data)
    return Job(
        folder=folder,
        images=images,
        options=options,
        dataset=dataset,
        split=split,
        settings=settings,
        data=data,
        command=tuple(command),
        watch=watch,
        notify=notify,
        progress=progress,
    )


def _begun(job: Job, overwrite: bool) -> dict[str, Any]:
    """What run.json says of this run so far; empty if it is to be begun."""
    record = job.folder.record()
    if overwrite and not _is_unfinished(record, job):
        return {}
    if record:
        job.refuse(differences(record, job.settings, job.data))
    return record


def _is_unfinished(record: Mapping[str, Any], job: Job) -> bool:
    """Whether this very command was interrupted: given again, also with ``overwrite``, it goes on."""
    if not is_interrupted(record, job.settings, job.data):
        return False
    contents = record["data"].get("contents")
    return contents is None or contents == contents_digest(read_contents(job.dataset, job.options.workers))


def _work(job: Job, record: dict[str, Any]) -> RunResult:
    new = not record
    try:
        return work(job, record)
    except (DataError, UsageError):
        # Refused: as if it had never begun, so that the corrected command is not another run. What took
        # an hour to learn stays, whatever was refused after it, and so does the count of opened seals.
        expensive = "fine_tuning" in record or record.get("holdout_evaluations")
        if new and record and not expensive and job.folder.record() == record:
            job.folder.clear()
        raise
