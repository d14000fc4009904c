"""A run's one pass over its images: they are decoded once for all that is made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.data.dataset import Dataset
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import Features, embed_images, fill_squares, room_for_squares
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

    with room_for_squares(dataset, chosen_preset(options).largest, place) as squares:
        yield squares


def embed_all(
    dataset: Dataset, backbone: Backbone, options: RunOptions, squares: Batch | None, progress: Progress
) -> Features:
    """Features of all images, the baseline's beside them; ``squares`` are filled if they can be in passing.

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
        squares=squares if squares is not None and _in_passing(squares, backbone) else None,
        workers=options.workers,
        progress=progress,
    )


def fill_rest(
    squares: Batch, dataset: Dataset, backbone: Backbone, options: RunOptions, progress: Progress
) -> None:
    """Fill them in a pass of its own, if they were not in passing."""
    if not _in_passing(squares, backbone):
        fill_squares(squares, dataset, workers=options.workers, progress=progress)


def _in_passing(squares: Batch, backbone: Backbone) -> bool:
    """Whether images that are decoded for ``backbone`` are large enough."""
    return bool(squares.shape[1] <= backbone.size)
