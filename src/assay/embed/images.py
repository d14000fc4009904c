"""embed_images: every image of a Dataset through a Backbone, once.

Images are taken in chunks of the dataset's order. A chunk is computed whole or not at all, so a run
that was killed goes on with the very batches that an unbroken run would have computed, and ends with
the same features.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assay._errors import ResourceError
from assay._types import Backbone, Matrix, Progress, silent
from assay.data.dataset import Dataset, Skipped
from assay.embed.cache import FeatureStore, store_folder
from assay.embed.chunks import Chunk, bits, read_chunks


@dataclass(frozen=True)
class Features:
    """The features of N images, and what was found on the way."""

    views: tuple[Matrix, ...]
    """(N, D) float16 memory maps: the images as they are, then mirrored; zeros where skipped."""
    contents: tuple[bytes | None, ...]
    """sha256 of each image's bytes; None where they could not be read."""
    skipped: Mapping[int, Skipped]
    """Images that could not be used, those that the dataset already knew included."""
    flags: Mapping[int, tuple[str, ...]]
    """Remarks on images that were used."""
    computed: int
    """Images that the network had to see: those that were not in the cache, and the rest of their chunks."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """``decode`` (all threads together) and ``embed`` (the network, and storing its features)."""


def embed_images(
    dataset: Dataset,
    backbone: Backbone,
    cache: Path,
    *,
    mirrored: bool = True,
    workers: int = 2,
    progress: Progress = silent,
) -> Features:
    """Features of every usable image, from the cache where they are known.

    Parameters
    ----------
    cache : folder that may be shared by any number of runs at once
    mirrored : also embed each image's mirror, as a second view
    workers : threads that read and decode

    Raises
    ------
    ResourceError : the disk is full; what was stored stays, and the same call goes on from there
    UsageError : the cache cannot be written to
    """
    views = ("plain", "mirror") if mirrored else ("plain",)
    stores = [FeatureStore(store_folder(cache, backbone.digest, view), backbone.width) for view in views]
    found = _Found()
    snapshots = [store.snapshot() for store in stores]
    for chunk in read_chunks(dataset, backbone.size, snapshots, workers, backbone.interpolation):
        start = time.perf_counter()
        _compute(chunk, backbone, stores)
        found.add(chunk, time.perf_counter() - start)
        progress("embed", chunk.rows.stop, len(dataset))
    return found.features(stores)


def _compute(chunk: Chunk, backbone: Backbone, stores: Sequence[FeatureStore]) -> None:
    """Store the features of a chunk, unless they are stored already.

    A run that is killed between two stores leaves the chunk in one of them. It will not be found in
    both, and so be computed again.
    """
    decoded, contents, flags = chunk.decoded, chunk.contents, chunk.flags
    if not decoded:
        return
    keys, remarks = [contents[row] for row in decoded], [bits(flags.get(row, ())) for row in decoded]
    images = np.stack(list(decoded.values()))
    for store, view in zip(stores, (images, images[:, :, ::-1]), strict=False):
        store.append(keys, remarks, backbone.embed(np.ascontiguousarray(view)))


@dataclass
class _Found:
    """The chunks so far, without their pixels."""

    contents: list[bytes | None] = field(default_factory=list)
    skipped: dict[int, Skipped] = field(default_factory=dict)
    flags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    computed: int = 0
    decode_s: float = 0.0
    embed_s: float = 0.0

    def add(self, chunk: Chunk, embed_s: float) -> None:
        self.contents += [image.content for image in chunk.images]
        self.skipped |= chunk.skipped
        self.flags |= chunk.flags
        self.computed += len(chunk.decoded)
        self.decode_s += sum(image.seconds for image in chunk.images)
        self.embed_s += embed_s

    def features(self, stores: Sequence[FeatureStore]) -> Features:
        views = tuple(store.gather(self._rows(store)) for store in stores)
        seconds = {"decode": self.decode_s, "embed": self.embed_s}
        return Features(views, tuple(self.contents), self.skipped, self.flags, self.computed, seconds)

    def _rows(self, store: FeatureStore) -> np.ndarray:
        """Where the features of each image lie; -1 for those that were skipped."""
        snapshot = store.snapshot()
        rows = np.full(len(self.contents), -1, dtype=np.int64)
        for row, content in enumerate(self.contents):
            if content is not None and row not in self.skipped:
                rows[row] = snapshot.find(content)
        lost = np.count_nonzero(rows < 0) - len(self.skipped)
        if lost:
            raise ResourceError(
                f"{store.folder}: the features of {lost:,} images were stored and are gone or damaged; "
                "if nothing else writes there, the disk is failing: name another cache with ASSAY_CACHE"
            )
        return rows
