"""embed_images: every image of a Dataset through a Backbone, once.

Images are taken in chunks of the dataset's order. A chunk is computed whole or not at all, so a run
that was killed goes on with the very batches that an unbroken run would have computed, and ends with
the same features.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from assay.data.dataset import Dataset, Skipped
from assay.data.forms import TargetSize
from assay.embed.cache import FeatureStore, Snapshot, store_folder
from assay.embed.chunks import Chunk, bits, nothing, read_chunks, words
from assay.embed.squares import form_of
from assay.errors import ResourceError
from assay.types import Backbone, Batch, Matrix, Progress, silent


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
    beside: tuple[Float[np.ndarray, "N _"], ...] = ()
    """(N, D) by each of the backbones beside, of the images as they are; zeros where skipped."""

    def seen(self, dataset: Dataset) -> Dataset:
        """The dataset that they are of, with what was found out about its images."""
        return dataset.as_seen(self.skipped, self.contents, self.flags)


def embed_images(
    dataset: Dataset,
    backbone: Backbone,
    cache: Path,
    *,
    mirrored: bool = True,
    beside: Sequence[Backbone] = (),
    squares: Batch | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Features:
    """Features of every usable image, from the cache where they are known.

    Parameters
    ----------
    cache : folder that may be shared by any number of runs at once
    mirrored : also embed each image's mirror, as a second view
    beside : others that see each image while it is decoded, as large as ``backbone`` has it decoded
    squares : (N, s, s, 3), to be filled with the images likewise: every one is decoded then; of JPEGs they
        are coarse if s is more than the backbone's size
    workers : threads that read and decode

    Raises
    ------
    ResourceError : the disk is full; what was stored stays, and the same call goes on from there
    UsageError : the cache cannot be written to
    """
    views = list(_views(backbone, cache, mirrored, beside))
    own = len(views) - len(beside)
    forms = [_form(one) for one in (backbone, *beside)]
    held = [] if squares is None else [form_of(squares)]
    known = partial(_image_warnings, views) if squares is None else nothing
    found = _Found()
    for chunk in read_chunks(dataset, *forms, *held, known=known, workers=workers):
        start = time.perf_counter()
        computed = [view.compute(chunk) for view in views]
        if squares is not None:
            for row, square in chunk.squares(form_of(squares)).items():
                squares[row] = square
        found.add(chunk, any(computed[:own]), time.perf_counter() - start)
        progress("embed", chunk.rows.stop, len(dataset))
    return found.features(views, own)


def _form(backbone: Backbone) -> TargetSize:
    return TargetSize(backbone.size, backbone.interpolation)


@dataclass(frozen=True)
class _View:
    """One kind of features: what computes them, of which squares, and where they are stored."""

    backbone: Backbone
    mirrored: bool
    store: FeatureStore
    before: Snapshot
    """What was stored at the start."""

    def compute(self, chunk: Chunk) -> bool:
        """Store the features of a chunk; False if they are stored already.

        A run that is killed between two views leaves the chunk in one of them; the other is computed.
        """
        decoded, contents, flags = chunk.squares(_form(self.backbone)), chunk.contents, chunk.flags
        keys = [contents[row] for row in decoded]
        if all(self.before.find(key) >= 0 for key in keys):
            return False
        images = np.stack(list(decoded.values()))
        seen = np.ascontiguousarray(images[:, :, ::-1]) if self.mirrored else images
        self.store.append(keys, [bits(flags.get(row, ())) for row in decoded], self.backbone.embed(seen))
        return True


def _views(backbone: Backbone, cache: Path, mirrored: bool, beside: Sequence[Backbone]) -> Iterator[_View]:
    """Those of the images as they are come first, then the mirrors', then those beside."""
    kinds = [(backbone, False, "plain"), *([(backbone, True, "mirror")] if mirrored else [])]
    # Kept with the backbone: how large it has a JPEG decoded changes what the others see.
    kinds += [(one, False, one.digest[:24]) for one in beside]
    for one, turned, name in kinds:
        store = FeatureStore(store_folder(cache, backbone.digest, name), one.width)
        yield _View(one, turned, store, store.snapshot())


def _image_warnings(views: Sequence[_View], content: bytes) -> tuple[str, ...] | None:
    """Those on an image whose features are all stored; else None."""
    rows = [view.before.find(content) for view in views]
    return words(views[0].before.flags(rows[0])) if min(rows) >= 0 else None


@dataclass
class _Found:
    """The chunks so far, without their pixels."""

    contents: list[bytes | None] = field(default_factory=list)
    skipped: dict[int, Skipped] = field(default_factory=dict)
    flags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    computed: int = 0
    decode_s: float = 0.0
    embed_s: float = 0.0

    def add(self, chunk: Chunk, computed: bool, embed_s: float) -> None:
        self.contents += [image.content for image in chunk.images]
        self.skipped |= chunk.skipped
        self.flags |= chunk.flags
        self.computed += sum(bool(image.squares) for image in chunk.images) if computed else 0
        self.decode_s += sum(image.seconds for image in chunk.images)
        self.embed_s += embed_s

    def features(self, views: Sequence[_View], own: int) -> Features:
        found = tuple(view.store.gather(self._rows(view.store)) for view in views)
        return Features(
            found[:own],
            tuple(self.contents),
            self.skipped,
            self.flags,
            self.computed,
            seconds={"decode": self.decode_s, "embed": self.embed_s},
            beside=found[own:],
        )

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
