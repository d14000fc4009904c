"""The work of a run, step by step.

The order is the package's listing: embed, estimate, fix, learn, measure, write. The trusted labels of
the holdout are read at the end, by ``measure``; run.json counts each time.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.data.dataset import Dataset
from assay.data.images import image_warnings_on
from assay.embed.backbone import load_backbone
from assay.embed.images import Features
from assay.evaluate import Cost, Evaluation, peak_memory_bytes
from assay.pipeline.assay import Learned, learn
from assay.pipeline.card import assemble_model, model_card
from assay.pipeline.carried import carried_figures, partial_run
from assay.pipeline.coverage import held_out_coverage
from assay.pipeline.exact import predicts_exactly
from assay.pipeline.histogram import Baseline, train_histogram
from assay.pipeline.holdout import Sealed, mask_holdout
from assay.pipeline.job import Job
from assay.pipeline.measuring import held_out, validated
from assay.pipeline.mirrors import mirrors_for
from assay.pipeline.one_pass import embed_all, fill_rest, room_to_learn
from assay.pipeline.options import RunOptions
from assay.pipeline.outputs import write_outputs
from assay.pipeline.record import (
    backbone_facts,
    changed_versions,
    contents_digest,
    machine,
    new_record,
    reading_facts,
    versions,
)
from assay.pipeline.result import RunResult
from assay.pipeline.robustness import Robustness, measure_robustness
from assay.pipeline.run_warnings import early_warnings, late_warnings
from assay.predict.model import Model
from assay.predict.package import package_bytes
from assay.types import UNKNOWN, Backbone, Batch

if TYPE_CHECKING:  # it imports torch, which fast does without
    from assay.pipeline.refine_run import Network


@dataclass(frozen=True)
class _Loaded:
    """The networks of a run."""

    backbone: Backbone
    """Whose features are embedded."""
    tuned: Sequence["Network"] = ()
    """What is fine-tuned; nothing at preset ``fast``."""


@dataclass(frozen=True)
class _Found:
    """What was learned, before anything is measured."""

    dataset: Dataset
    backbone: Backbone
    """The model's: fine-tuned, or the one whose features were embedded."""
    sealed: Sealed
    learned: Learned
    baseline: Baseline


def work(job: Job, record: dict[str, Any]) -> RunResult:
    """Do what is left to do; ``record``, what run.json says, is kept up to date here and on disk."""
    found = _learn(job, record)
    evaluations = _measure(job, record, found)
    return _write(job, record, found, evaluations)


def _learn(job: Job, record: dict[str, Any]) -> _Found:
    options, watch = job.options, job.watch
    # What is there stays until nothing can refuse what is to take its place, but for a full disk.
    replacing = not record and bool(job.folder.record())
    with watch.stage("load"):
        loaded = _load(options)
    _start(job, record, backbone_facts(loaded.backbone), replacing=replacing)
    with ExitStack() as stack:
        with watch.stage("embed"):
            squares = stack.enter_context(room_to_learn(job.dataset, options, job.folder.path))
            features = embed_all(job.dataset, loaded.backbone, options, squares, job.progress)
        for line in image_warnings_on(features.flags):
            job.notify(f"{line} (image_issues.csv)")
        _check_images(job, record, features)
        if not replacing:
            job.keep(record)
        dataset = features.seen(job.dataset)
        with watch.stage("split"):
            mirrors = mirrors_for(dataset, loaded.backbone, options)
            sealed = mask_holdout(dataset, job.split, features, options, mirrors)
        if replacing:
            job.folder.clear()
            job.keep(record)
        with watch.stage("learn"):
            learned = learn(sealed.data, progress=job.progress)
        learned, backbone = _refined(job, record, dataset, sealed, learned, loaded, squares)
    with watch.stage("baseline"):
        (histograms,) = features.beside
        baseline = train_histogram(dataset, sealed.data.fold_of != UNKNOWN, histograms)
    return _Found(dataset, backbone, sealed, learned, baseline)


def _load(options: RunOptions) -> _Loaded:
    """All networks, before anything is computed: what cannot be loaded is refused then."""
    backbone = load_backbone(
        options.backbone, options.cache, size=options.size, weights=options.weights, dtype=options.dtype
    )
    if options.preset == "fast":
        return _Loaded(backbone)
    from assay.pipeline.refine_run import load_networks  # with torch, which fast does without

    return _Loaded(backbone, load_networks(options))


def _check_images(job: Job, record: dict[str, Any], features: Features) -> None:
    """OtherRunError if they have other bytes than those that the run, or that of its figures, began with."""
    contents = contents_digest(features.contents)
    job.check_contents(record, contents)
    record["data"]["contents"] = contents
    if job.options.figures_from is not None:
        # Asked again, and before anything is learned: only now the bytes of the images are known.
        partial_run(job.options.figures_from, job.settings, record["data"])
    record["features_computed"] = record.get("features_computed", 0) + features.computed


def _refined(
    job: Job,
    record: dict[str, Any],
    dataset: Dataset,
    sealed: Sealed,
    learned: Learned,
    loaded: _Loaded,
    squares: Batch | None,
) -> tuple[Learned, Backbone]:
    """What the effort makes of what ``fast`` found, or that itself."""
    watch, options, backbone = job.watch, job.options, loaded.backbone
    if squares is not None:
        from assay.pipeline.refine_run import RunContext, refine_run  # with torch

        with watch.stage("embed"):
            fill_rest(squares, dataset, backbone, options, job.progress)
        spent = sum(watch.seconds.values())
        context = RunContext(job.folder, options, job.notify, job.progress, spent, job.keep)
        with watch.stage("fine-tune"):
            refined = refine_run(context, record, dataset, squares, sealed, learned, loaded.tuned)
        if refined:
            return refined.learned, refined.backbone
    with watch.stage("embed"):
        exact = predicts_exactly(learned, dataset, backbone, job.split.holdout, workers=options.workers)
    return exact, backbone


def _measure(job: Job, record: dict[str, Any], found: _Found) -> dict[str, Evaluation]:
    n_skipped = len(job.split.holdout) - len(found.sealed.holdout)
    # Before the labels are read: a run that is killed while it reads them has read them.
    record["holdout_evaluations"] += int(len(found.sealed.holdout) > 0)
    job.keep(record)
    with job.watch.stage("measure"):
        return {
            **held_out(found.dataset, found.sealed, found.learned, found.baseline, n_skipped),
            **validated(found.dataset, found.learned),
            **({} if job.options.figures_from is None else carried_figures(job.options.figures_from)),
        }


def _write(
    job: Job, record: dict[str, Any], found: _Found, evaluations: Mapping[str, Evaluation]
) -> RunResult:
    model_folder = job.folder.path / "model"
    with job.watch.stage("export"):
        fit = np.flatnonzero(found.sealed.data.fold_of != UNKNOWN)
        model = assemble_model(found.dataset, found.backbone, found.learned, evaluations, job.options, fit)
    with job.watch.stage("damage"):
        robustness = _robustness(found, model, job.options.workers)
    with job.watch.stage("write"):
        coverage = held_out_coverage(found.dataset, found.sealed, found.learned, model.facts["conformal"])
        n_held_out = len(job.split.holdout)
        card = model_card(model, found.learned, evaluations, robustness, coverage, n_held_out=n_held_out)
        model.save(model_folder, card)
        cost = Cost(sum(job.watch.so_far().values()), peak_memory_bytes(), package_bytes(model_folder))
        result = RunResult(
            job.folder.path,
            found.dataset,
            found.learned,
            model,
            evaluations,
            cost,
            _warned(job, found, evaluations),
            left_out=tuple(found.dataset.names[row] for row in found.sealed.leaked),
            robustness=robustness,
            coverage=coverage,
        )
        write_outputs(result, job.split.holdout)
    record |= {
        "status": "done",
        "machine": machine(),
        "cost": cost.to_json(),
        "outputs": job.folder.outputs(),
    }
    job.keep(record)
    job.folder.drop_checkpoints()
    return result


def _robustness(found: _Found, model: Model, workers: int) -> Robustness | None:
    """On images that the student did not learn from; None at preset ``fast``, which learns from all."""
    validation = found.learned.validation
    if validation is None:
        return None
    return measure_robustness(
        model,
        found.dataset,
        validation,
        found.learned.corrected.trusted[validation],
        calibrated=True,
        workers=workers,
    )


def _warned(job: Job, found: _Found, evaluations: Mapping[str, Evaluation]) -> tuple[str, ...]:
    late = late_warnings(
        found.dataset,
        found.learned,
        evaluations,
        n_held_out=len(job.split.holdout),
        n_leaked=len(found.sealed.leaked),
    )
    for warning in late:
        job.notify(f"warning: {warning}")
    return (*early_warnings(found.dataset), *late)


def _start(job: Job, record: dict[str, Any], backbone: dict[str, Any], *, replacing: bool) -> None:
    """Begin run.json, or go on with it; a run whose images are known is as it was until they are compared.

    Parameters
    ----------
    replacing : another run is in the folder: nothing is written yet
    """
    if not record:
        record |= new_record(job.settings, job.data, job.split)
    elif record["backbone"] != backbone:
        job.refuse([f"backbone {record['backbone']} there, {backbone} now"])
    else:
        job.notify(f"{job.folder.path}: going on with the run that was begun here")
        for change in changed_versions(record):
            job.notify(f"warning: {change}: the bytes may differ from those of an unbroken run")
        if record["status"] == "running":
            job.watch.earlier = record.get("seconds", {})
    record |= {
        "status": "running",
        "command": list(job.command),
        "images": str(job.images.resolve()),
        "reading": reading_facts(job.options.read),
        "backbone": backbone,
        "versions": versions(),
        "machine": machine(),
        "processes": record["processes"] + 1,
    }
    if "contents" not in record["data"] and not replacing:
        job.folder.write(record)
