"""A run's one pass over its images: they are decoded once for all that is made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.data.dataset import Dataset
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import Features, embed_images, fill_images, room_for_images
from assay.pipeline.options import RunOptions, uses_flip_tta
from assay.types import Backbone, Batch, Progress


@contextmanager
def room_to_learn(dataset: Dataset, options: RunOptions, place: Path) -> Iterator[Batch | None]:
    """Squares to be filled with the images that fine-tuning learns from; None at preset ``fast``.

    Parameters
    ----------
    place : an existing folder

    Raises
    ------
    ResourceError : the disk is full
    """
    if options.preset == "fast":
        yield None
        return
    from assay.pipeline.presets import chosen_preset  # with torch, which fast does without

    with room_for_images(dataset, chosen_preset(options).largest, place) as resized_images:
        yield resized_images


def embed_all(
    dataset: Dataset,
    backbone: Backbone,
    options: RunOptions,
    resized_images: Batch | None,
    progress: Progress,
) -> Features:
    """Features of all images, and the baseline's; fills ``resized_images`` if this pass decodes large enough.

    Raises
    ------
    AssayError : as ``embed_images``
    """
    return embed_images(
        dataset,
        backbone,
        options.cache,
        mirrored=uses_flip_tta(options.preset),
        beside=[HistogramBackbone()],
        resized_images=resized_images
        if resized_images is not None and _in_passing(resized_images, backbone)
        else None,
        workers=options.workers,
        progress=progress,
    )


def fill_rest(
    resized_images: Batch, dataset: Dataset, backbone: Backbone, options: RunOptions, progress: Progress
) -> None:
    """Fill them in a pass of its own, if they were not in passing."""
    if not _in_passing(resized_images, backbone):
        fill_images(resized_images, dataset, workers=options.workers, progress=progress)


def _in_passing(resized_images: Batch, backbone: Backbone) -> bool:
    """Whether images that are decoded for ``backbone`` are large enough."""
    return bool(resized_images.shape[1] <= backbone.size)
