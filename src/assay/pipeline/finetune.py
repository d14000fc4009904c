"""Presets ``balanced`` and ``best``: a network is fine-tuned on the posterior, and the labels are corrected
once more with what it predicts.

The out-of-fold predictions of the frozen features are kept: the student's predictions are pooled with them,
weighed by the trusted labels of images that neither was trained on (``correct.posterior.fit_pool``).

A label must not confirm itself, and the student was trained on the noisy label of nearly every image. So the
trusted labels of some images, the calibration rows, are hidden: these are trained on by their noisy label
like all others (after Liu et al. 2002), and show how far the student memorised noisy labels. The
validation rows, of which it saw neither label, show how right it is on new images.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float

from assay.correct.posterior import (
    Calibration,
    combine,
    fit_pool,
    halves,
)
from assay.correct.result import CorrectedLabels
from assay.data.dataset import Dataset
from assay.data.loader import load
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.errors import UsageError
from assay.evaluate import mcnemar, wilson
from assay.pipeline.exact import See, exactly
from assay.pipeline.finetune_split import FineTuneSplit, split_for_finetuning
from assay.pipeline.holdout import Partition
from assay.pipeline.learn import Fitted, TrainingLabels, calibration_of
from assay.pipeline.options import RunOptions
from assay.pipeline.presets import FINISH_S, Schedule, chosen_preset, fit_schedule, tuning_for
from assay.predict.runtime import FLIP_TTA_BELOW, flip_tta
from assay.train.finetune import (
    METHOD,
    EpochPredictions,
    FineTuned,
    FineTuneData,
    Phase,
    fine_tune,
    is_resumable,
    predict_resized,
)
from assay.train.loop import Pace, Tuning, measure_pace
from assay.types import (
    UNKNOWN,
    Batch,
    Labels,
    Mask,
    Notify,
    Probs,
    Progress,
    Rows,
    ignore_message,
    silent,
)


def load_student(options: RunOptions) -> dict[int, TimmBackbone]:
    """The pretrained network that is fine-tuned, at each size of the preset's schedule.

    Raises
    ------
    AssayError : as ``load_backbone``
    UsageError : a network without weights to start from
    """
    preset, found = chosen_preset(options), {}
    for phase in preset.phases:
        # Not sharpened: a network that is trained on enlarged images gains nothing by it.
        backbone = load_backbone(
            preset.student, options.cache, size=phase.size, dtype=options.dtype, interpolation="bicubic"
        )
        if not isinstance(backbone, TimmBackbone):
            raise UsageError(f"--student: expected a network that can be fine-tuned, got {preset.student!r}")
        found[phase.size] = backbone
    return found


def finetune_run(
    checkpoints: Path,
    options: RunOptions,
    record: dict[str, Any],
    dataset: Dataset,
    *,
    images: Batch,
    partition: Partition,
    fitted: Fitted,
    student: Mapping[int, TimmBackbone],
    spent_s: float,
    keep: Callable[[], None],
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> tuple[Fitted, TimmBackbone] | None:
    """Fine-tune as the run's preset and time limit say; None if not one epoch fits into the limit.

    Parameters
    ----------
    checkpoints : the folder of the checkpoint
    record : run.json, which gets the schedule: a resumed run keeps to it
    images : all images resized, see ``embed.resized_images``
    student : see ``load_student``
    spent_s : seconds that the run took so far
    keep : writes run.json
    """
    begun = perf_counter()
    split = split_for_finetuning(partition.data, partition.near_duplicates)
    tuning, name = tuning_for(len(split.train)), next(iter(student.values())).name
    if not is_planned(record, student):
        pace = measure_paces(student, images, len(dataset.classes), tuning)
        left_s = None
        if options.time_limit is not None:
            left_s = options.time_limit - spent_s - (perf_counter() - begun) - FINISH_S
            # A refit takes the same epochs again after measuring.
            left_s = left_s / 2 if options.refit else left_s
        schedule = fit_schedule(
            chosen_preset(options).phases_for(len(split.train)),
            pace,
            left_s,
            n_images=len(dataset),
            n_train=len(split.train),
        )
        if schedule.phases:
            notify(schedule.words(name, len(split.train)))
        else:
            notify(
                f"warning: no epoch of {name} fits into the time limit: the model is that of --preset fast"
            )
        record["fine_tuning"] = {
            "network": name,
            "stages": schedule.to_json(),
            "seconds_expected": round(schedule.seconds),
            "milliseconds": {
                str(size): {"train": one.train_ms, "predict": one.predict_ms} for size, one in pace.items()
            },
        }
        keep()
    phases = Schedule.from_json(record["fine_tuning"]["stages"])
    if not phases:
        return None
    checkpoints.mkdir(exist_ok=True)
    checkpoint = checkpoints / "student.safetensors"
    identity = _identity(record, student, tuning)
    if checkpoint.is_file() and not is_resumable(checkpoint, identity):
        notify("warning: checkpoint was written by another version; restarting fine-tuning")

    def epoch_done(line: str) -> None:
        keep()
        notify(line)

    after, backbone = refine(
        partition.data,
        fitted,
        images,
        lambda target, rows: load(dataset, [target], rows, workers=options.workers),
        split,
        phases=phases,
        student=student,
        tuning=tuning,
        checkpoint=checkpoint,
        identity=identity,
        notify=epoch_done,
        progress=progress,
    )
    notify(before_and_after(fitted, after, split.validation, partition.data.trusted))
    return after, backbone


def is_planned(record: Mapping[str, Any], student: Mapping[int, TimmBackbone]) -> bool:
    """Whether the run was begun with this network at these sizes: another version may have had others."""
    plan = record.get("fine_tuning", {})
    now = next(iter(student.values())).name, {*map(str, student)}
    return (plan.get("network"), {*plan.get("milliseconds", {})}) == now


def measure_paces(
    student: Mapping[int, TimmBackbone], images: Batch, n_classes: int, tuning: Tuning
) -> dict[int, Pace]:
    """Milliseconds an image at each size, timed now."""
    return {size: measure_pace(backbone, images, n_classes, tuning) for size, backbone in student.items()}


def _identity(record: Mapping[str, Any], student: Mapping[int, TimmBackbone], tuning: Tuning) -> str:
    """A digest of all that a checkpoint depends on."""
    facts = [record[name] for name in ("settings", "data", "split", "backbone", "fine_tuning")]
    whole = [facts, [backbone.digest for backbone in student.values()], asdict(tuning), METHOD]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def before_and_after(before: Fitted, after: Fitted, validation: Rows, trusted: Labels) -> str:
    """The accuracy on validation images before and after fine-tuning; a warning if it fell significantly."""
    truth = trusted[validation]
    predicted = [one.unseen[validation].argmax(axis=1) for one in (before, after)]
    earlier, now = (100 * (one == truth).mean() for one in predicted)
    line = f"{earlier:.1f} % of {len(truth):,} validation images right before fine-tuning, {now:.1f} % after"
    if mcnemar(truth, *predicted).difference.high >= 0:
        return line
    return (
        f"warning: {line}; this model may be smaller than that of --preset fast, but it is less "
        "accurate: more images or --preset best may change that"
    )


def refine(
    data: TrainingLabels,
    fitted: Fitted,
    images: Batch,
    see: See,
    split: FineTuneSplit,
    *,
    phases: Sequence[Phase],
    student: Mapping[int, TimmBackbone],
    tuning: Tuning,
    checkpoint: Path,
    identity: str,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> tuple[Fitted, TimmBackbone]:
    """Fine-tune on the result of preset ``fast`` and correct the labels again; the new backbone comes too.

    Nothing here sees the holdout's trusted labels.

    Parameters
    ----------
    images : all images resized, see ``embed.resized_images``
    see : the images themselves, for predictions of those that were not trained on
    checkpoint, identity : see ``train.finetune.fine_tune``
    notify : gets the figures of each epoch
    """
    hidden = np.concatenate([split.calibration_rows, split.validation])
    known = (data.trusted if data.known is None else data.known).copy()
    known[hidden] = UNKNOWN

    def report(predictions: EpochPredictions) -> None:
        right = predictions.validation.argmax(axis=1) == data.trusted[split.validation]
        share, epochs = wilson(int(right.sum()), len(right)), sum(phase.epochs for phase in phases)
        notify(
            f"epoch {predictions.epoch + 1} of {epochs}, {predictions.size} px: "
            f"{100 * share.estimate:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}) of "
            f"{len(right):,} validation images right"
        )

    tuned = fine_tune(
        FineTuneData(images, split.train, known, fitted.corrected.posterior, split.validation),
        phases,
        student,
        tuning,
        checkpoint=checkpoint,
        identity=identity,
        seed=data.seed,
        workers=data.workers,
        report=report,
        progress=progress,
    )
    trained = np.isin(np.arange(len(data.noisy)), split.train)
    predictions = FlipTTA(tuned, images, see, trained, data.usable, data.workers, progress)
    return _concluded(data, fitted, split, hidden, predictions), tuned.backbone


@dataclass
class FlipTTA:
    """Predictions of the fine-tuned model with flip TTA; an image and its mirror are predicted once at most.

    Images that were not trained on are predicted from their files in float32, as the saved model does, since
    figures come from them. The others are predicted as they were trained on, in the dtype that is fastest.
    """

    tuned: FineTuned
    images: Batch
    """(N, s, s, 3), of all images."""
    see: See
    """The images themselves, which may be larger, or resized in another way."""
    trained: Mask
    """(N,) True for images that were trained on."""
    usable: Mask
    """(N,) False where the image was skipped."""
    workers: int = 1
    progress: Progress = silent
    _plain: Probs = field(init=False, repr=False)
    """(N, K) P(class) of the images as they are, where they were predicted; else 0."""
    _mirrored: Probs = field(init=False, repr=False)
    """The same of their mirrors."""

    def __post_init__(self) -> None:
        shape = len(self.usable), self.tuned.head.n_classes
        self._plain, self._mirrored = np.zeros(shape), np.zeros(shape)

    @cached_property
    def _exact(self) -> TimmBackbone:
        return self.tuned.backbone.exact()

    def predict(self, rows: Rows | None = None, calibration: Calibration | None = None) -> Probs:
        """P(class) (R, K) of some rows, by default all; uniform for skipped images.

        Parameters
        ----------
        calibration : of the image's prediction and of its mirror's, before the first is found unsure
        """
        rows = np.arange(len(self.usable)) if rows is None else rows
        usable = np.flatnonzero(self.usable[rows])
        probs = np.full((len(rows), self.tuned.head.n_classes), 1 / self.tuned.head.n_classes)

        def predicted(some: Rows, *, mirrored: bool) -> Float[np.ndarray, "A K"]:
            cached = self._mirrored if mirrored else self._plain
            self._fill(cached, some[~cached[some].any(axis=1)], mirrored)
            return calibration.apply(cached[some]) if calibration else cached[some]

        def of_mirrors(unsure: Rows) -> Probs:
            return predicted(rows[usable[unsure]], mirrored=True)

        probs[usable] = flip_tta(predicted(rows[usable], mirrored=False), of_mirrors, FLIP_TTA_BELOW)
        return probs

    def _fill(self, cached: Probs, rows: Rows, mirrored: bool) -> None:
        tuned, trained = self.tuned, self.trained[rows]
        if trained.any():
            images, some = self.images[:, :, ::-1] if mirrored else self.images, rows[trained]
            cached[some] = predict_resized(
                tuned.backbone, tuned.head, images, some, workers=self.workers, progress=self.progress
            )
        for some, probs in exactly(self.see, rows[~trained], self._exact, tuned.head, mirrored=mirrored):
            cached[some] = probs


def _concluded(
    data: TrainingLabels, fitted: Fitted, split: FineTuneSplit, hidden: Rows, predictions: FlipTTA
) -> Fitted:
    """The calibrated model, and labels that are corrected by all that is known."""
    before, visible = fitted.corrected, data.trusted.copy()
    visible[hidden] = UNKNOWN  # no label affects its own posterior
    evidence = data.labels.evidence(before.pred_probs, visible)
    pred_probs, likely, strength = before.pred_probs.copy(), before.posterior.copy(), 1.0
    plain, new = predictions.predict(), np.setdiff1d(np.flatnonzero(data.usable), split.train)
    # Images that were not trained on have a pool of their own: their noisy label was never memorised.
    for measured, rows in ((split.validation, new), (split.calibration_rows, split.train)):
        # Measured images are weighed by their other half, all the others by both halves.
        for fitted_on, others in [*halves(measured, data.groups), (measured, np.setdiff1d(rows, measured))]:
            both = [before.pred_probs[fitted_on], plain[fitted_on]]
            pool = fit_pool(both, evidence[fitted_on], data.trusted[fitted_on])
            pred_probs[others] = pool.pred_probs([before.pred_probs[others], plain[others]])
            likely[others] = combine(pred_probs[others], evidence[others], pool.strength)
        strength = pool.strength
    corrected = CorrectedLabels(
        data.labels.noisy,
        data.trusted,
        pred_probs,
        likely,
        data.usable,
        strength,
        data.threshold,
        checked=np.isin(np.arange(len(plain)), split.calibration_rows),
        outliers=before.outliers,  # by frozen features: fine-tuned ones tell the known classes apart alone
        no_class=before.no_class,
    )
    corrected = corrected if data.known is None else corrected.relying_on(data.known)
    fit_model, prior = calibration_of(data, corrected)
    calibration = fit_model(plain[split.validation], data.trusted[split.validation])
    # Images that were trained on need no prediction of the model: their labels are corrected.
    probs = np.full_like(plain, 1 / plain.shape[1])
    probs[new] = predictions.predict(new, calibration)
    unseen = probs.copy()
    for fitted_on, others in halves(split.validation, data.groups):
        half = fit_model(plain[fitted_on], data.trusted[fitted_on])
        unseen[others] = predictions.predict(others, half)
    return replace(
        fitted,
        head=predictions.tuned.head.calibrated(calibration.inverse_temperature, calibration.bias),
        corrected=corrected,
        prior=prior,
        probs_of=lambda rows: probs[rows],
        unseen=unseen,
        validation=split.validation,
        flip_tta_below=FLIP_TTA_BELOW,
        scorer=None,  # its features tell the known classes apart alone
    )
