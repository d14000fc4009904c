"""Images -> features of a backbone, each image once, cached by its content; and images to train on.

Images are taken in batches of the data set's order. A batch is computed whole or not at all, so a killed run
resumes with the very batches of an unbroken run, and ends with the same features.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from assay.data.dataset import Dataset
from assay.data.decode import FLAGS, size_in_header
from assay.data.files import Skipped
from assay.data.loader import ImageBatch, Known, decode_all, load, spread
from assay.data.resize import TargetSize
from assay.embed.cache import FeatureStore, Snapshot, store_folder
from assay.errors import ResourceError
from assay.types import Backbone, Batch, Matrix, Progress, silent

SIZED = 256
"""Images whose sizes decide how large images to train on are; they are spread evenly over the data set."""


@dataclass(frozen=True)
class Features:
    """The features of N images, and what was found on the way."""

    views: tuple[Matrix, ...]
    """(N, D) memory maps, zeros where skipped: float16 of the images as they are, then mirrored; or the one
    view that the user gave."""
    contents: tuple[bytes | None, ...]
    """sha256 of each image's bytes; None where they could not be read."""
    skipped: Mapping[int, Skipped]
    """Row -> why the image cannot be used, those included that the data set knew."""
    flags: Mapping[int, tuple[str, ...]]
    """Row -> warnings about an image that is used: see ``data.decode.FLAGS``."""
    computed: int
    """Images that the network computed: those that were not in the cache, and the rest of their batches."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """``decode`` (all threads together) and ``embed`` (the network, and storing its features)."""
    beside: tuple[Float[np.ndarray, "N _"], ...] = ()
    """(N, D) of each backbone beside, for the images as they are; zeros where skipped."""

    def __repr__(self) -> str:
        (n, width), views = self.views[0].shape, len(self.views)
        return f"Features({n:,} images, {width:,} numbers each, {views} view{'s' * (views > 1)})"

    def seen(self, dataset: Dataset) -> Dataset:
        """The data set that they are of, with what was found about its images."""
        skipped = {**dataset.skipped, **self.skipped}
        return replace(dataset, skipped=skipped, contents=self.contents, image_warnings=self.flags)


def embed_images(
    dataset: Dataset,
    backbone: Backbone,
    cache: Path,
    *,
    mirrored: bool = True,
    beside: Sequence[Backbone] = (),
    resized_images: Batch | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Features:
    """Features of every usable image, from the cache where they are known.

    Parameters
    ----------
    cache : folder that any number of runs may share at once
    mirrored : also embed the mirror of each image, as a second view
    beside : other backbones that embed each image too, at the size that it is decoded at for ``backbone``
    resized_images : (N, s, s, 3), see ``room_for_images``; filled in the same pass, which then decodes all.
        At most as large as the backbone's images: those of JPEGs would be coarse otherwise
    workers : threads that read, and processes that decode

    Raises
    ------
    ResourceError : the disk is full; what was stored stays, and the same call resumes there
    UsageError : the cache cannot be written to
    """
    views = [_View(backbone, False, cache, backbone.digest, "plain")]
    views += [_View(backbone, True, cache, backbone.digest, "mirror")] if mirrored else []
    own = len(views)
    # Stored with the backbone: the size that it has a JPEG decoded at changes what the others get.
    views += [_View(one, False, cache, backbone.digest, one.digest[:24]) for one in beside]
    held = [] if resized_images is None else [TargetSize(resized_images.shape[1])]
    targets = list(dict.fromkeys([*(view.target for view in views), *held]))

    def flags_if_stored(content: bytes) -> tuple[str, ...] | None:
        rows = [view.before.find(content) for view in views]
        if min(rows) < 0:
            return None
        bits = views[0].before.flags(rows[0])
        return tuple(flag for place, flag in enumerate(FLAGS) if bits >> place & 1)

    known: Known = flags_if_stored if resized_images is None else decode_all
    contents: list[bytes | None] = [None] * len(dataset)
    skipped, flags = dict[int, Skipped](), dict[int, tuple[str, ...]]()
    computed, decode_s, embed_s = 0, 0.0, 0.0
    for batch in load(dataset, targets, known=known, workers=workers):
        start = time.perf_counter()
        images = dict(zip(targets, batch.images, strict=True))
        stored = [view.store_features(batch, images[view.target]) for view in views]
        if resized_images is not None:
            resized_images[batch.decoded] = images[held[0]]
        for row, content in batch.contents.items():
            contents[row] = content
        skipped |= batch.skipped
        flags |= batch.flags
        computed += len(batch.decoded) if any(stored[:own]) else 0
        decode_s += batch.seconds
        embed_s += time.perf_counter() - start
        progress("embed", int(batch.rows[-1]) + 1, len(dataset))
    found = tuple(view.gather(contents, skipped) for view in views)
    return Features(
        found[:own],
        tuple(contents),
        skipped,
        flags,
        computed,
        seconds={"decode": decode_s, "embed": embed_s},
        beside=found[own:],
    )


class _View:
    """One kind of features: what computes them, and where they are stored; ``digest`` names the place."""

    def __init__(self, backbone: Backbone, mirrored: bool, cache: Path, digest: str, name: str) -> None:
        self.backbone, self.mirrored = backbone, mirrored
        self.target = TargetSize(backbone.size, backbone.interpolation)
        self.store = FeatureStore(store_folder(cache, digest, name), backbone.width)
        self.before: Snapshot = self.store.snapshot()

    def store_features(self, batch: ImageBatch, images: Batch) -> bool:
        """Compute and store the features of a batch; False if they are stored already.

        A run that is killed between two views leaves the batch in one of them; the other is computed.
        """
        keys = [batch.contents[row] for row in batch.decoded.tolist()]
        if all(self.before.find(key) >= 0 for key in keys):
            return False
        seen = np.ascontiguousarray(images[:, :, ::-1]) if self.mirrored else images
        bit_of = {flag: 1 << place for place, flag in enumerate(FLAGS)}
        bits = [sum(bit_of[flag] for flag in batch.flags.get(row, ())) for row in batch.decoded.tolist()]
        self.store.append(keys, bits, self.backbone.embed(seen))
        return True

    def gather(self, contents: Sequence[bytes | None], skipped: Mapping[int, Skipped]) -> Matrix:
        snapshot = self.store.snapshot()
        rows = np.full(len(contents), -1, dtype=np.int64)
        for row, content in enumerate(contents):
            if content is not None and row not in skipped:
                rows[row] = snapshot.find(content)
        lost = np.count_nonzero(rows < 0) - len(skipped)
        if lost:
            raise ResourceError(
                f"{self.store.folder}: the features of {lost:,} images were stored and are gone or damaged; "
                "if nothing else writes there, the disk is failing: name another cache with ASSAY_CACHE"
            )
        return self.store.gather(rows)


@contextmanager
def room_for_images(dataset: Dataset, size: int, place: Path) -> Iterator[Batch]:
    """(N, s, s, 3) uint8 on disk for all images of a data set; zeros until they are filled.

    s is ``size``, the largest side that training needs, or the longest side among the images if all are
    smaller. The file, in the folder ``place``, has no name and goes with the process.
    """
    # Enlarged images would only take more memory.
    side = min(size, _longest_side(dataset, size))
    length = max(len(dataset) * side * side * 3, 1)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=place))
            # Claimed now: a disk that is full later would kill the process in the middle of a write.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, length)
            else:  # macOS, Windows
                zeros = bytes(1 << 20)
                for start in range(0, length, len(zeros)):
                    file.write(zeros[: length - start])
                file.flush()
        except OSError as error:
            raise ResourceError(
                f"{place}: expected room for {length:,} bytes of images to train on: {error.strerror}"
            ) from error
        yield np.memmap(file, np.uint8, "r+", shape=(len(dataset), side, side, 3))


def fill_images(
    resized_images: Batch, dataset: Dataset, *, workers: int = 2, progress: Progress = silent
) -> None:
    """Put every usable image into its place, in a pass that computes no features."""
    for batch in load(dataset, [TargetSize(resized_images.shape[1])], workers=workers):
        resized_images[batch.decoded] = batch.images[0]
        progress("read", int(batch.rows[-1]) + 1, len(dataset))


def _longest_side(dataset: Dataset, size: int) -> int:
    """The longest side among some images, of those that can be decoded; 1 without any."""
    sides, rows = {}, spread(np.flatnonzero(dataset.usable), SIZED)
    dataset.expect(rows)
    for row in rows.tolist():
        data = dataset.read(row)
        found = None if isinstance(data, Skipped) else size_in_header(data, dataset.limits)
        sides[row] = max(found) if found else 0
    # A header may claim any size: the largest that also decodes counts.
    largest_first = np.array(sorted(sides, key=lambda row: -sides[row]), dtype=np.int64)
    with closing(load(dataset, [TargetSize(size)], largest_first, batch_size=1, workers=1)) as batches:
        return next((sides[batch.decoded[0]] for batch in batches if len(batch.decoded)), 1)
