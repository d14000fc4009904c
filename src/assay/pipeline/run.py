"""run: from images with labels to a folder of results, step by step."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from assay.data.dataset import Dataset
from assay.data.decode import warning_lines
from assay.data.place import Place
from assay.data.read import read_dataset
from assay.data.split import Split
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.embed.given import GivenFeatures, given_features
from assay.embed.images import Features, embed_images, fill_images, room_for_images
from assay.embed.tiny import HistogramBackbone
from assay.errors import LabelError, UsageError
from assay.evaluate import Cost, peak_memory_bytes
from assay.pipeline import outputs, run_files
from assay.pipeline.card import assemble_model, model_card
from assay.pipeline.exact import predicts_exactly
from assay.pipeline.finetune_split import check_enough
from assay.pipeline.folder import (
    RunFolder,
    RunRecord,
    check_outside,
    contents_digest,
    data_facts,
    read_contents,
    split_facts,
)
from assay.pipeline.holdout import Partition, check_groups, check_learnable, mask_holdout
from assay.pipeline.learn import Fitted, TrainingLabels, learn, train_baseline
from assay.pipeline.measure import evaluate_fit, evaluate_holdout, measure_coverage, warnings_of
from assay.pipeline.options import RunOptions, uses_flip_tta
from assay.pipeline.result import RunResult, load_run
from assay.pipeline.robustness import measure_robustness
from assay.predict.model import package_bytes
from assay.types import UNKNOWN, Backbone, Batch, Notify, Progress, ignore_message, silent


def run(  # noqa: PLR0915  # the whole way of images and labels, in one place
    images: Place | Dataset | None,
    out: Path,
    options: RunOptions | None = None,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    notify: Notify = ignore_message,
    progress: Progress = silent,
    place: Place | None = None,
    features: Features | None = None,
    keep: Callable[[TrainingLabels, Fitted], None] | None = None,
) -> RunResult:
    """Train on ``images`` and write all results to ``out``; the same call resumes a killed run.

    A run that is complete is left as it is.

    Parameters
    ----------
    images : their place, or a data set with its labels; with ``options.read.features`` only shown in the
        report and the review, and may be None
    overwrite : replace a complete run, or one with other settings or data
    command : words to keep in run.json
    notify : gets what was assumed about the data, warnings, and how each epoch ended
    place : where the images of a data set lie, for run.json
    features : of the data set, if they are known
    keep : is given what was learned, before the run is complete; for files of its caller

    Raises
    ------
    DataError : input that is refused, such as labels that may belong to other images
    OtherRunError : ``out`` holds a run with other settings or data and ``overwrite`` is not set, or files
        that are not a run's
    BusyError : another run holds ``out``
    ResourceError : disk or memory ran out; the same call resumes from there
    """
    options, folder = options or RunOptions(), RunFolder(out)
    record = RunRecord(folder, options.settings())
    watch = record.watch

    # Read: names, noisy and trusted labels; no image is opened. Split: which trusted images are held out.
    with watch.stage("read"):
        dataset, split = read_inputs(images, out, options, notify)
    record.data = data_facts(dataset)

    def contents() -> str:
        known = None if features is None else features.contents
        return contents_digest(known or read_contents(dataset, options.workers))

    with folder.lock():
        record.load(contents, overwrite=overwrite)
        if folder.is_complete(record.facts):
            record.check_contents(contents())
            notify(f"{out}: run is already complete; use --overwrite to rerun")
            return load_run(out)
        with record.cleared_if_refused(), ExitStack() as stack:
            # Load: all networks first, so that a wrong name is refused before hours of work.
            with watch.stage("load"):
                backbone, student = load_networks(options, dataset)
            place = place if isinstance(images, Dataset) else images
            record.start(place, options.read, split, backbone, command, notify)

            # Embed: one pass decodes each image once, for the backbone, the baseline and fine-tuning.
            with watch.stage("embed"):
                resized_images = None
                if student:
                    resized_images = stack.enter_context(room_for_images(dataset, max(student), out))
                # Images that fine-tuning wants larger than the backbone sees are decoded in a second pass.
                second_pass = resized_images is not None and (
                    features is not None or resized_images.shape[1] > backbone.size
                )
                features = (
                    features
                    or embed_images(
                        dataset,
                        backbone,
                        options.cache,
                        mirrored=uses_flip_tta(options.preset),
                        beside=[HistogramBackbone()],
                        resized_images=None if second_pass else resized_images,
                        workers=options.workers,
                        progress=progress,
                    )
                    if dataset.vectors is None
                    else given_features(dataset)
                )
            for line in warning_lines(Counter(flag for flags in features.flags.values() for flag in flags)):
                notify(f"{line} (image_issues.csv)")
            record.check_contents(contents_digest(features.contents))
            record.facts["features_computed"] = record.facts.get("features_computed", 0) + features.computed
            record.keep()
            dataset = features.seen(dataset)
            if resized_images is not None and second_pass:
                with watch.stage("embed"):
                    fill_images(resized_images, dataset, workers=options.workers, progress=progress)

            # Estimate the noise, correct the labels, train: the holdout's trusted labels stay hidden.
            train = partial(
                fit,
                features=features,
                resized_images=resized_images,
                backbone=backbone,
                student=student,
                options=options,
                record=record,
                notify=notify,
                progress=progress,
            )
            partition, fitted, network = train(dataset, split)
            trained_on = np.flatnonzero(partition.data.fold_of != UNKNOWN)
            with watch.stage("baseline"):
                baseline = train_baseline(dataset, trained_on, features, options.seed)

            # Evaluate: counted before the labels are read, for a run that is killed here has read them.
            record.facts["holdout_evaluations"] += int(len(partition.holdout) > 0)
            record.keep()
            with watch.stage("evaluate"):
                n_skipped = len(split.holdout) - len(partition.holdout)
                evaluations = evaluate_holdout(
                    dataset,
                    partition,
                    fitted,
                    baseline,
                    n_skipped,
                ) | evaluate_fit(dataset, fitted)
                coverage = measure_coverage(dataset, partition, fitted)
            warnings = warnings_of(dataset, partition, fitted, evaluations, len(split.holdout))
            for warning in warnings:
                notify(f"warning: {warning}")

            # Refit: once the figures are known, the model that is saved may be trained on the holdout too.
            saved = fitted
            if options.refit:
                everything = Split(np.union1d(split.fit, split.holdout), split.holdout[:0])
                record.facts["refit"] = split_facts(everything)
                record.keep()
                all_data, saved, network = train(dataset, everything, refit=True)
                trained_on = np.flatnonzero(all_data.data.fold_of != UNKNOWN)

            # Export: network, head and figures, and the ONNX graph that is compared with both.
            with watch.stage("export"):
                model = assemble_model(dataset, network, saved, evaluations, options, trained_on)
            with watch.stage("robustness"):
                robustness = None
                if saved.validation is not None:
                    truth = saved.corrected.trusted[saved.validation]
                    robustness = measure_robustness(
                        model,
                        dataset,
                        saved.validation,
                        truth,
                        calibrated=not options.balanced,
                        workers=options.workers,
                    )

            # Write: the record last, which makes the run complete.
            with watch.stage("write"):
                card = model_card(
                    model,
                    saved,
                    evaluations,
                    robustness,
                    coverage,
                    n_held_out=len(split.holdout),
                    n_groups=0 if dataset.groups is None else len(np.unique(dataset.groups)),
                )
                model.save(out / "model", card)
                outputs.write_noise(out, fitted)
                safe = options.excel_safe
                outputs.write_labels(out, dataset, fitted, split, excel_safe=safe)
                outputs.write_pred_probs(out, fitted)
                annotators = outputs.write_annotators(out, dataset, fitted, excel_safe=safe)
                outputs.write_holdout(out, dataset, fitted, split.holdout, partition.leaked, excel_safe=safe)
                outputs.write_issues(out, dataset, excel_safe=safe)
                if keep is not None:
                    keep(partition.data, fitted)
                if not fitted.noise.n_pairs:
                    outputs.write_first_plan(out, dataset, fitted, options.seed, excel_safe=safe)
                cost = Cost(sum(watch.so_far().values()), peak_memory_bytes(), package_bytes(out / "model"))
                outputs.write_evaluation(
                    out,
                    dataset,
                    fitted,
                    model,
                    evaluations,
                    holdout=split.holdout,
                    leaked=partition.leaked,
                    cost=cost,
                    coverage=coverage,
                    robustness=robustness,
                    warnings=warnings,
                    annotators=annotators,
                )
            record.finish(cost)
    return load_run(out)


def read_inputs(
    images: Place | Dataset | None, out: Path, options: RunOptions, notify: Notify = ignore_message
) -> tuple[Dataset, Split]:
    """The labelled data set, and which trusted images are held out; refuses what can be refused unseen."""
    RunFolder(out).check()
    if isinstance(images, Dataset):
        dataset = images
    else:
        if isinstance(images, Path):
            check_outside(out, images)
        dataset = read_dataset(images, options.read)
    for note in dataset.notes:
        notify(note)
    split = options.split(dataset)
    if options.read.trusted is not None and (dataset.trusted == UNKNOWN).all():
        raise LabelError(
            "expected trusted labels in the --trusted file, got none; leave --trusted out, or check "
            f"{run_files.FIRST_LABELS} images or more picked at random"
        )
    check_learnable(dataset, split)
    check_groups(dataset, split, options.folds)
    if options.preset != "fast":
        check_enough(split.fit, dataset.groups)
    if options.refit and not len(split.holdout):
        raise UsageError("--refit: expected a holdout to measure on before, got none; leave out --holdout 0")
    return dataset, split


def load_networks(options: RunOptions, dataset: Dataset) -> tuple[Backbone, Mapping[int, TimmBackbone]]:
    """The backbone that embeds, and the network that is fine-tuned, by size: none at ``fast``."""
    if dataset.vectors is not None:
        return GivenFeatures(dataset.vectors.shape[1]), {}
    backbone = load_backbone(
        options.backbone, options.cache, size=options.size, weights=options.weights, dtype=options.dtype
    )
    if options.preset == "fast":
        return backbone, {}
    from assay.pipeline.finetune import load_student  # with torch, which fast does without

    return backbone, load_student(options)


def fit(
    dataset: Dataset,
    split: Split,
    *,
    features: Features,
    resized_images: Batch | None,
    backbone: Backbone,
    student: Mapping[int, TimmBackbone],
    options: RunOptions,
    record: RunRecord,
    notify: Notify,
    progress: Progress,
    refit: bool = False,
) -> tuple[Partition, Fitted, Backbone]:
    """Train on all images but the holdout; nothing here sees a trusted label of it.

    Returns
    -------
    the data as split, the trained model with its corrected labels, and the network below its head
    """
    watch = record.watch
    # Near-duplicates share a fold; the trusted labels of the holdout are masked.
    with watch.stage("split"):
        # Features given by the user have no mirrors to embed.
        mirroring = backbone if dataset.vectors is None else None
        partition = mask_holdout(dataset, split, features, options, mirroring)
    record.replace()

    # Estimate the noise, predict out of fold, correct the labels, train a head on the features.
    with watch.stage("learn"):
        fitted = learn(partition.data, progress=progress)

    # Presets balanced and best: fine-tune a network on the corrected labels, which corrects them further.
    if resized_images is not None:
        from assay.pipeline.finetune import finetune_run  # with torch

        checkpoints, facts = record.folder.checkpoints[refit], record.facts
        if refit:  # the epochs that were planned before, from a checkpoint of its own
            facts = facts | {"split": facts["refit"]}
        with watch.stage("fine-tune"):
            tuned = finetune_run(
                checkpoints,
                options,
                facts,
                dataset,
                images=resized_images,
                partition=partition,
                fitted=fitted,
                student=student,
                spent_s=sum(watch.seconds.values()),
                keep=record.keep,
                notify=notify,
                progress=progress,
            )
        if tuned:
            return partition, *tuned

    # What is saved computes in float32: the holdout is predicted so, whatever the features were made with.
    with watch.stage("embed"):
        exact = predicts_exactly(fitted, dataset, backbone, split.holdout, workers=options.workers)
    return partition, exact, backbone
