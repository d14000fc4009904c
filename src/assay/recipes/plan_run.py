"""What a run would do and take, before it does: ``assay run --dry-run``."""

import time
from pathlib import Path

import numpy as np

from assay.data.read import read_dataset
from assay.data.split import seal_holdout
from assay.embed.backbone import load_backbone
from assay.recipes.options import RunOptions

TIMED_IMAGES = 64
LEARN_S_PER_IMAGE = 1.5e-3
"""Five heads and one more, each image and its mirror; measured on two cores."""


def plan_run(images: Path, out: Path, options: RunOptions) -> str:
    """The plan as text: what was read, what would be done, about how long and how much disk."""
    dataset = read_dataset(images, options.read)
    split = seal_holdout(dataset.trusted, size=options.holdout, how=options.holdout_split, seed=options.seed)
    backbone = load_backbone(
        options.backbone, options.cache, size=options.size, weights=options.weights, dtype=options.dtype
    )
    blank = np.zeros((TIMED_IMAGES, backbone.size, backbone.size, 3), dtype=np.uint8)
    backbone.embed(blank)
    start = time.perf_counter()
    backbone.embed(blank)
    each_s = (time.perf_counter() - start) / TIMED_IMAGES
    seconds = len(dataset) * (2 * each_s + LEARN_S_PER_IMAGE)
    megabytes = len(dataset) * 2 * backbone.width * 2 / 1e6
    return "\n".join(
        [
            f"{len(dataset):,} images, {len(dataset.classes)} classes, "
            f"{len(split.fit) + len(split.holdout):,} trusted labels",
            f"would hold out {len(split.holdout):,} of them, estimate the noise from {len(split.fit):,},",
            f"embed every image and its mirror with {backbone.name} at {backbone.size} px "
            f"({1000 * each_s:.1f} ms each), fix the labels, train, measure, and write {out}/",
            f"about {seconds / 60:.0f} min if nothing is cached, {megabytes:,.0f} MB in {options.cache}",
            *dataset.notes,
        ]
    )
