"""Fine-tuning as a part of a run: its schedule is timed and said before it begins, and kept in run.json."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from assay.data.dataset import Dataset
from assay.data.squares import read_squares
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.errors import UsageError
from assay.pipeline.finetune_split import FineTuneSplit, split_for_finetuning
from assay.pipeline.holdout import Partition
from assay.pipeline.learn import Learned
from assay.pipeline.options import RunOptions
from assay.pipeline.presets import ImageCounts, Schedule, chosen_preset, fit_schedules, tuning_for
from assay.pipeline.refine import Refined, TuningPlan, beside_before, refine
from assay.train.checkpoint import is_of
from assay.train.finetune import METHOD, SETTLED, Phase
from assay.train.loop import Tuning
from assay.train.pace import Pace, measure_pace
from assay.types import Batch, Notify, Progress

Backbones = Mapping[int, TimmBackbone]
"""By size."""


@dataclass(frozen=True)
class RunContext:
    """A run's folder, options, listeners and time spent."""

    checkpoints: Path
    options: RunOptions
    notify: Notify
    progress: Progress
    spent_s: float
    """What the run took so far."""
    keep: Callable[[], None]
    """Writes run.json, with the seconds so far."""

    def told(self, line: str) -> None:
        """Say how an epoch ended, and keep what it took."""
        self.keep()
        self.notify(line)


@dataclass(frozen=True)
class Network:
    """A pretrained network that a run fine-tunes, at each size of its effort."""

    role: str
    """``teacher`` or ``student``: names its checkpoint, and its entry in run.json."""
    backbones: Backbones

    @property
    def name(self) -> str:
        """Timm's."""
        return next(iter(self.backbones.values())).name


def load_networks(options: RunOptions) -> list[Network]:
    """What is fine-tuned, one after the other; the last one is the student, whose model it will be.

    Raises
    ------
    AssayError : as ``load_backbone``
    UsageError : a network without weights to start from
    """
    student = options.student or chosen_preset(options).student
    asked = {"teacher": options.teacher, "student": student}
    return [Network(role, _load(name, role, options)) for role, name in asked.items() if name]


def _load(name: str, role: str, options: RunOptions) -> Backbones:
    found = {}
    for phase in chosen_preset(options).phases:
        # What learns from enlarged pictures learns to see them as they are: sharpened ones gain it nothing.
        backbone = load_backbone(
            name, options.cache, size=phase.size, dtype=options.dtype, interpolation="bicubic"
        )
        if not isinstance(backbone, TimmBackbone):
            raise UsageError(f"--{role}: expected a network that can be fine-tuned, got {name!r}")
        found[phase.size] = backbone
    return found


def refine_run(
    context: RunContext,
    record: dict[str, Any],
    dataset: Dataset,
    squares: Batch,
    partition: Partition,
    learned: Learned,
    networks: Sequence[Network],
) -> Refined | None:
    """Fine-tune as the run's effort says; None if the time is up before one epoch could end.

    A teacher goes first. What it made of the labels is what the student begins with, and one of the opinions
    that are weighed against the student's.

    Parameters
    ----------
    record : run.json, in which the schedules are kept: a resumed run keeps to them
    squares : of all images, see ``embed.squares``
    networks : see ``load_networks``
    """
    begun, options = perf_counter(), context.options
    split = split_for_finetuning(partition.data, partition.near_duplicates)
    folder = context.checkpoints
    folder.mkdir(exist_ok=True)
    see = partial(read_squares, dataset, workers=options.workers)
    tuning = tuning_for(len(split.learn))
    if not _is_planned(record, networks):
        classes = len(dataset.classes)
        paced = {network.role: paces(network.backbones, squares, classes, tuning) for network in networks}
        left = time_left(options, context.spent_s + perf_counter() - begun)
        if left is not None and options.refit:
            left /= 2  # the same epochs again after measuring
        counts = _image_counts(dataset, split, learned)
        record["fine_tuning"] = _planned(context, networks, paced, left, counts)
        context.keep()
    refined: Refined | None = None
    for network in networks:
        phases = Schedule.from_json(record["fine_tuning"][network.role]["stages"])
        if not phases:
            continue
        kept = folder / f"{network.role}.safetensors"
        identity = _identity(record, network.backbones, tuning)
        if kept.is_file() and not is_of(kept, identity):
            context.notify(f"warning: {kept.name} was kept by another way to learn: fine-tuning begins anew")
        plan = TuningPlan(phases, network.backbones, kept, identity, tuning)
        before = refined.learned if refined else learned
        refined = refine(
            partition.data, before, squares, see, split, plan, notify=context.told, progress=context.progress
        )
    if refined:
        context.notify(beside_before(learned, refined.learned, split.validation, partition.data.trusted))
    return refined


def _is_planned(record: Mapping[str, Any], networks: Sequence[Network]) -> bool:
    """Whether the run was begun with these networks at these sizes: a former version may have had others."""
    planned = {
        role: (plan["network"], {*plan["milliseconds"]})
        for role, plan in record.get("fine_tuning", {}).items()
    }
    return planned == {one.role: (one.name, {*map(str, one.backbones)}) for one in networks}


def _image_counts(dataset: Dataset, split: FineTuneSplit, learned: Learned) -> ImageCounts:
    """How many images there are; those that are asked about after the first epoch."""
    sure = learned.corrected.posterior[split.learn].max(axis=1) >= SETTLED
    return ImageCounts(len(dataset), len(split.learn), int((~sure).sum()) + len(split.validation))


def _planned(
    context: RunContext,
    networks: Sequence[Network],
    paced: Mapping[str, Mapping[int, Pace]],
    left: float | None,
    counts: ImageCounts,
) -> dict[str, Any]:
    """The schedules that fit the time, said and as JSON."""
    schedules = fit_schedules(chosen_preset(context.options), paced, left, counts)
    for network in networks:
        schedule = schedules[network.role]
        if schedule.phases:
            context.notify(schedule.words(network.name, counts.learned_from))
        else:
            so = {"teacher": "the student learns without it", "student": "the model is that of effort fast"}
            context.notify(
                f"warning: no epoch of {network.name} fits into the time limit: {so[network.role]}"
            )
    return {
        network.role: {
            "network": network.name,
            "stages": schedules[network.role].to_json(),
            "seconds_expected": round(schedules[network.role].seconds),
            "milliseconds": {str(size): one.to_json() for size, one in paced[network.role].items()},
        }
        for network in networks
    }


def time_left(options: RunOptions, spent_s: float) -> float | None:
    """Seconds of the run's limit; None if there is none."""
    return None if options.time_limit is None else options.time_limit - spent_s


def paces(backbones: Backbones, squares: Batch, n_classes: int, tuning: Tuning) -> dict[int, Pace]:
    """Milliseconds an image at each size, timed now."""
    return {size: measure_pace(backbone, squares, n_classes, tuning) for size, backbone in backbones.items()}


def blank_squares(phases: Sequence[Phase], n: int) -> Batch:
    """Images to time with before any was read."""
    side = max(phase.size for phase in phases)
    return np.zeros((n, side, side, 3), dtype=np.uint8)


def _identity(record: Mapping[str, Any], backbones: Backbones, tuning: Tuning) -> str:
    """What a checkpoint depends on."""
    facts = [record[name] for name in ("settings", "data", "split", "backbone", "fine_tuning")]
    digests = [backbone.digest for backbone in backbones.values()]
    whole = [facts, digests, asdict(tuning), METHOD]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
