"""dry_run: what a run would do and how long it would take (``assay run --dry-run``)."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import Dataset
from assay.data.loader import load_together, spread
from assay.data.place import Place
from assay.data.resize import TargetSize
from assay.embed.backbone import TimmBackbone
from assay.pipeline.folder import RunFolder, RunRecord, contents_digest, data_facts, read_contents
from assay.pipeline.options import RunOptions, uses_flip_tta
from assay.pipeline.run import load_networks, read_inputs
from assay.types import Backbone, Notify, ignore_message

TIMED_IMAGES = 64

DECODED_IMAGES = 32
"""Images whose decoding is timed; spread evenly over the data set."""

LEARN_S_PER_VIEW = 0.75e-3
"""To train six heads, for each view of an image; measured on two cores."""

LEARN_S_AT_LEAST = 3.0
"""The same for few images, which take more epochs."""

NEAR_DUPLICATES_S = 0.15e-3
"""To look for near-duplicates, for each image; measured on two cores."""

EXPORT_S = 4.0
"""To export, to measure and to write at preset ``fast``; see ``FINISH_S`` for the others."""


@dataclass(frozen=True)
class DryRun:
    """What a run would do, and about what it takes if nothing is cached."""

    images: int
    classes: int
    trusted: int
    """Trusted labels, those of the holdout included."""
    holdout: int
    backbone: str
    size: int
    """Side in pixels that images are resized to; 0 where features are given."""
    mirrored: bool
    """Whether the mirror of each image is embedded too."""
    milliseconds_per_image: float
    """To embed one, timed now."""
    milliseconds_to_decode: float
    """To read and decode one, timed now."""
    bytes_to_read: int
    """Of all images, from the size of some."""
    seconds: float
    """Of the whole run."""
    fine_tuning: str
    """The network and its epochs, in words; empty at preset ``fast``."""
    cache_bytes: int
    """Of features in the cache."""
    resumes: bool
    """Whether the folder holds this run already, unfinished or complete."""

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)


def dry_run(
    images: Place | Dataset | None,
    out: Path,
    options: RunOptions,
    *,
    overwrite: bool = False,
    notify: Notify = ignore_message,
    sample: int | None = None,
) -> DryRun:
    """Read the labels, time the networks, refuse what the run would refuse; nothing is written.

    Parameters
    ----------
    sample : of a run in shards, the images to learn from
    """
    start = time.perf_counter()
    dataset, split = read_inputs(images, out, options, notify)
    record = RunRecord(RunFolder(out), options.settings(), data_facts(dataset))
    record.load(lambda: contents_digest(read_contents(dataset, options.workers)), overwrite=overwrite)
    backbone, student = load_networks(options, dataset)
    # The run reads and loads the same again.
    ready_s = time.perf_counter() - start
    n, given = len(dataset), dataset.vectors is not None
    mirrored = uses_flip_tta(options.preset) and not given
    views = n * (2 if mirrored else 1)
    passes = 2 if student and max(student) > backbone.size else 1  # larger images have a pass of their own
    # One after the other: in parallel each would slow the other down.
    embed_s = 0.0 if given else _embed_s(backbone)
    rows = spread(np.flatnonzero(dataset.usable), DECODED_IMAGES)
    start = time.perf_counter()
    load_together(dataset, TargetSize(backbone.size, backbone.interpolation), rows, workers=options.workers)
    decode_s = (time.perf_counter() - start) / max(len(rows), 1)
    learned = n if sample is None else min(n, sample + len(split.fit) + len(split.holdout))
    learn_s = max(learned * views / n * LEARN_S_PER_VIEW, LEARN_S_AT_LEAST)
    fits = 2 if options.refit else 1
    spent_s = ready_s + n * passes * decode_s + learned * NEAR_DUPLICATES_S + views * embed_s
    found = [] if given else [dataset.read(row) for row in rows.tolist()]
    sizes = [len(data) for data in found if isinstance(data, bytes)]
    words, tuning_s, finish_s = "", 0.0, EXPORT_S
    if student:
        # With torch, which fast does without.
        from assay.pipeline.finetune import measure_paces
        from assay.pipeline.presets import FINISH_S, chosen_preset, fit_schedule, tuning_for

        preset, tuning = chosen_preset(options), tuning_for(n)
        blank = np.zeros((tuning.batch, preset.largest, preset.largest, 3), dtype=np.uint8)
        pace, left_s, finish_s = measure_paces(student, blank, len(dataset.classes), tuning), None, FINISH_S
        if options.time_limit is not None:
            left_s = (options.time_limit - spent_s - learn_s - finish_s) / fits
        schedule = fit_schedule(preset.phases_for(n), pace, left_s, n_images=n, n_train=n)
        words = schedule.words(preset.student, n) if schedule.phases else ""
        tuning_s = schedule.seconds
    return DryRun(
        images=n,
        classes=len(dataset.classes),
        trusted=len(split.fit) + len(split.holdout),
        holdout=len(split.holdout),
        backbone=backbone.name,
        size=backbone.size,
        mirrored=mirrored,
        milliseconds_per_image=1000 * embed_s,
        milliseconds_to_decode=1000 * decode_s,
        bytes_to_read=n * sum(sizes) // max(len(sizes), 1),
        seconds=spent_s + fits * (learn_s + tuning_s) + finish_s,
        fine_tuning=words,
        cache_bytes=0 if given else views * backbone.width * np.dtype(np.float16).itemsize,
        resumes=bool(record.facts),
    )


def _embed_s(backbone: Backbone) -> float:
    # A short batch would be padded to a whole one.
    n = max(TIMED_IMAGES, backbone.plan.batch if isinstance(backbone, TimmBackbone) else 0)
    blank = np.zeros((n, backbone.size, backbone.size, 3), dtype=np.uint8)
    backbone.embed(blank)  # warms up
    start = time.perf_counter()
    backbone.embed(blank)
    return (time.perf_counter() - start) / n
