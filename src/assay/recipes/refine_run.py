"""Fine-tuning as a part of a run: its schedule is timed and said before it begins, and kept in run.json."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay._errors import UsageError
from assay._types import Batch, Progress
from assay.data.dataset import Dataset
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.embed.squares import held_squares
from assay.learn.finetune import Stage
from assay.learn.loop import Tuning
from assay.learn.pace import Pace, measure_pace
from assay.recipes.aside import Aside, set_aside
from assay.recipes.assay import Learned
from assay.recipes.folder import RunFolder
from assay.recipes.options import RunOptions, Say
from assay.recipes.refine import Refined, Way, refine
from assay.recipes.schedule import EFFORTS, Schedule, fit_schedule
from assay.recipes.sealing import Sealed

Backbones = Mapping[int, TimmBackbone]
"""By size."""


@dataclass(frozen=True)
class Place:
    """Where a run is, and whom it talks to."""

    folder: RunFolder
    options: RunOptions
    say: Say
    progress: Progress
    spent_s: float
    """What the run took so far."""


def load_student(options: RunOptions) -> Backbones:
    """The pretrained network that an effort fine-tunes, at each of its sizes.

    Raises
    ------
    AssayError : as ``load_backbone``
    UsageError : a network without weights to start from
    """
    effort = EFFORTS[options.effort]
    name = options.student or effort.student
    found = {}
    for stage in effort.stages:
        backbone = load_backbone(name, options.cache, size=stage.size, dtype=options.dtype)
        if not isinstance(backbone, TimmBackbone):
            raise UsageError(f"--student: expected a network that can be fine-tuned, got {name!r}")
        found[stage.size] = backbone
    return found


def refine_run(
    place: Place, record: dict[str, Any], dataset: Dataset, sealed: Sealed, learned: Learned
) -> Refined | None:
    """Fine-tune as the run's effort says; None if the time is up before one epoch could end.

    Parameters
    ----------
    record : run.json, in which the schedule is kept: a resumed run keeps to it
    """
    options, backbones = place.options, load_student(place.options)
    aside = set_aside(sealed.data, sealed.copies)
    kept = place.folder.checkpoint
    kept.parent.mkdir(exist_ok=True)
    largest = max(backbones)
    with held_squares(
        dataset, largest, kept.parent, workers=options.workers, progress=place.progress
    ) as squares:
        if "fine_tuning" not in record:
            classes = len(dataset.classes)
            record["fine_tuning"] = _schedule(place, backbones, squares, aside, classes, len(dataset))
            place.folder.write(record)
        stages = Schedule.from_json(record["fine_tuning"]["stages"])
        if not stages:
            return None
        way = Way(stages, backbones, kept, _identity(record, backbones))
        return refine(sealed.data, learned, squares, aside, way, say=place.say, progress=place.progress)


def _schedule(
    place: Place, backbones: Backbones, squares: Batch, aside: Aside, n_classes: int, n: int
) -> dict[str, Any]:
    """The schedule that fits the time, said and as JSON."""
    learn = len(aside.learn)
    pace = paces(backbones, squares, n_classes)
    stages = EFFORTS[place.options.effort].stages_for(learn)
    schedule = fit_schedule(stages, pace, learn, n, time_left(place.options, place.spent_s))
    name = name_of(backbones)
    if schedule.stages:
        place.say(schedule.words(name, learn))
    else:
        place.say(f"warning: no epoch of {name} fits into the time limit: the model is that of effort fast")
    return {
        "student": name,
        "stages": schedule.to_json(),
        "seconds_expected": round(schedule.seconds),
        "milliseconds": {str(size): vars(one) for size, one in pace.items()},
    }


def name_of(backbones: Backbones) -> str:
    """The network's, which is the same at each size."""
    return next(iter(backbones.values())).name


def time_left(options: RunOptions, spent_s: float) -> float | None:
    """Seconds of the run's limit; None if there is none."""
    return None if options.time_limit is None else options.time_limit - spent_s


def paces(backbones: Backbones, squares: Batch, n_classes: int) -> dict[int, Pace]:
    """Milliseconds an image at each size, timed now."""
    tuning = Tuning()
    return {size: measure_pace(backbone, squares, n_classes, tuning) for size, backbone in backbones.items()}


def blank_squares(stages: Sequence[Stage]) -> Batch:
    """Images to time with before any was read."""
    side = max(stage.size for stage in stages)
    return np.zeros((Tuning().batch, side, side, 3), dtype=np.uint8)


def _identity(record: Mapping[str, Any], backbones: Backbones) -> str:
    """What a checkpoint depends on."""
    facts = [record[name] for name in ("settings", "data", "split", "backbone", "fine_tuning")]
    digests = [backbone.digest for backbone in backbones.values()]
    return hashlib.sha256(json.dumps([facts, digests], sort_keys=True).encode()).hexdigest()
