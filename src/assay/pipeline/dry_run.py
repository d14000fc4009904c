"""What a run would do and take, before it does: ``assay run --dry-run``."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.squares import read_squares, spread
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.pipeline.job import Job
from assay.pipeline.options import RunOptions, uses_flip_tta
from assay.pipeline.run import prepare
from assay.types import Backbone, Notify, ignore_message

TIMED_IMAGES = 64

DECODED_IMAGES = 32
"""Images that are read to see how long it takes; spread evenly over the dataset."""

LEARN_S_PER_VIEW = 0.75e-3
"""Of an image: five heads and one more; measured on two cores."""

LEARN_S_AT_LEAST = 15.0
"""The same for few images, over which a head passes more often."""


@dataclass(frozen=True)
class DryRun:
    """What a run was asked to do, and about what it takes if nothing is cached."""

    images: int
    classes: int
    trusted: int
    """Trusted labels, those of the holdout included."""
    holdout: int
    backbone: str
    size: int
    """Side in pixels that images are resized to."""
    mirrored: bool
    """Whether the mirror of each image is embedded too."""
    milliseconds_per_image: float
    """To embed one, timed now."""
    milliseconds_to_decode: float
    """To read and decode one, timed now."""
    seconds: float
    """Of the whole run."""
    fine_tuning: str
    """The network and its epochs, in words; empty at preset ``fast``."""
    cache_bytes: int
    """Room for features in the cache."""
    resumes: bool
    """Whether the folder holds this run already, begun or finished."""

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)


def dry_run(
    images: Path, out: Path, options: RunOptions, *, overwrite: bool = False, notify: Notify = ignore_message
) -> DryRun:
    """Read the labels, time the backbone, refuse what the run would refuse; ``out`` is left alone.

    Raises
    ------
    AssayError : as ``run``, for all that it refuses before it computes anything
    """
    job, record = prepare(images, out, options, overwrite=overwrite, notify=notify)
    backbone = load_backbone(
        options.backbone, options.cache, size=options.size, weights=options.weights, dtype=options.dtype
    )
    n, mirrored = len(job.dataset), uses_flip_tta(options.preset)
    views, each_s, decode_s = n * (2 if mirrored else 1), _embed_s(backbone), _decode_s(job, backbone)
    # Not beside the network, which takes the cores that the threads decode on.
    fast_s = (
        _passes(options, backbone.size) * n * decode_s
        + views * each_s
        + max(views * LEARN_S_PER_VIEW, LEARN_S_AT_LEAST)
    )
    words, tuning_s = ("", 0.0) if options.preset == "fast" else _fine_tuning(job, fast_s)
    return DryRun(
        images=n,
        classes=len(job.dataset.classes),
        trusted=len(job.split.fit) + len(job.split.holdout),
        holdout=len(job.split.holdout),
        backbone=backbone.name,
        size=backbone.size,
        mirrored=mirrored,
        milliseconds_per_image=1000 * each_s,
        milliseconds_to_decode=1000 * decode_s,
        seconds=fast_s + tuning_s,
        fine_tuning=words,
        cache_bytes=views * backbone.width * np.dtype(np.float16).itemsize,
        resumes=bool(record),
    )


def _passes(options: RunOptions, size: int) -> int:
    """Times that each image is decoded: twice where it is fine-tuned on larger than it is embedded."""
    if options.preset == "fast":
        return 1
    from assay.pipeline.presets import chosen_preset

    return 1 + (chosen_preset(options).largest > size)


def _fine_tuning(job: Job, fast_s: float) -> tuple[str, float]:
    from assay.pipeline.presets import ImageCounts, chosen_preset, fit_schedules, tuning_for
    from assay.pipeline.refine_run import blank_squares, load_networks, paces, time_left

    options, n = job.options, len(job.dataset)
    tuning, networks, classes = tuning_for(n), load_networks(options), len(job.dataset.classes)
    preset = chosen_preset(options)
    blank = blank_squares(preset.phases_for(n), tuning.batch)
    paced = {one.role: paces(one.backbones, blank, classes, tuning) for one in networks}
    schedules = fit_schedules(preset, paced, time_left(options, fast_s), ImageCounts(n, n, n))
    words = [schedules[one.role].words(one.name, n) for one in networks if schedules[one.role].phases]
    return "; then ".join(words), sum(schedule.seconds for schedule in schedules.values())


def _decode_s(job: Job, backbone: Backbone) -> float:
    rows = spread(np.flatnonzero(job.dataset.usable), DECODED_IMAGES)
    start = time.perf_counter()
    read_squares(job.dataset, rows, backbone.size, backbone.interpolation, workers=job.options.workers)
    return (time.perf_counter() - start) / max(len(rows), 1)


def _embed_s(backbone: Backbone) -> float:
    # A short batch would be padded to a whole one.
    n = max(TIMED_IMAGES, backbone.plan.batch if isinstance(backbone, TimmBackbone) else 0)
    blank = np.zeros((n, backbone.size, backbone.size, 3), dtype=np.uint8)
    backbone.embed(blank)  # warms up
    start = time.perf_counter()
    backbone.embed(blank)
    return (time.perf_counter() - start) / n
