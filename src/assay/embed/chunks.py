"""Images in chunks of the dataset's order, read, hashed and decoded by threads ahead of the network.

Of every image only its small square waits in memory, and only a few chunks of them.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from assay.data.dataset import Dataset, Skipped
from assay.data.images import FLAGS, decode, fits
from assay.data.limits import USUAL
from assay.data.resize import Square, to_square
from assay.embed.cache import Snapshot

CHUNK = 256
"""Images that are computed and stored together."""

AHEAD = 3
"""Chunks that may be decoded before the network needs them."""


@dataclass(frozen=True)
class Seen:
    """One image: skipped, or decoded, or neither because its features are stored."""

    content: bytes | None = None
    """sha256 of its bytes; None where they could not be read."""
    skipped: Skipped | None = None
    square: Square | None = None
    flags: tuple[str, ...] = ()
    """Remarks on an image that is not skipped."""
    seconds: float = 0.0
    """Time that a thread spent on it."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive images; either every usable one is decoded, or the features of all are stored."""

    rows: range
    images: tuple[Seen, ...]

    @property
    def contents(self) -> dict[int, bytes]:
        """Row -> sha256, where the image could be read."""
        return {row: image.content for row, image in self.each() if image.content is not None}

    @property
    def decoded(self) -> dict[int, Square]:
        """Row -> square."""
        return {row: image.square for row, image in self.each() if image.square is not None}

    @property
    def skipped(self) -> dict[int, Skipped]:
        """Row -> why it cannot be used."""
        return {row: image.skipped for row, image in self.each() if image.skipped is not None}

    @property
    def flags(self) -> dict[int, tuple[str, ...]]:
        """Row -> remarks, where there are any."""
        return {row: image.flags for row, image in self.each() if image.flags}

    def each(self) -> Iterator[tuple[int, Seen]]:
        """Row and image, in order."""
        return zip(self.rows, self.images, strict=True)


def read_chunks(
    dataset: Dataset,
    size: int,
    stored: Sequence[Snapshot] = (),
    workers: int = 2,
    interpolation: str = "bicubic",
    first: int = 0,
) -> Iterator[Chunk]:
    """The dataset's images in chunks, in order.

    Parameters
    ----------
    size : side in pixels of the squares
    stored : an image whose features are in all of these need not be decoded
    workers : threads
    interpolation : how images become squares, a key of ``data.resize.FILTERS``
    first : row to begin at
    """
    see = partial(_see, dataset, size, interpolation)
    pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode")
    every = range(len(dataset))
    parts = (every[start : start + CHUNK] for start in every[first::CHUNK])
    try:
        tasks = ((rows, [pool.submit(see, row, stored) for row in rows]) for rows in parts)
        waiting = deque(islice(tasks, AHEAD))
        while waiting:
            rows, futures = waiting.popleft()
            chunk = Chunk(rows, tuple(future.result() for future in futures))
            waiting.extend(islice(tasks, 1))
            yield _completed(pool, chunk, see)
    finally:
        # After Ctrl-C, or an error in the network, nobody needs the images that nobody has begun.
        pool.shutdown(cancel_futures=True)


def _completed(pool: ThreadPoolExecutor, chunk: Chunk, see: Callable[..., Seen]) -> Chunk:
    """The chunk with all its usable images decoded, if one had to be.

    A killed run may have stored a part of the chunk. It is computed whole all the same, in the very
    batches of an unbroken run, whose results in the last bits are the network's own affair.
    """
    if not chunk.decoded:
        return chunk
    again = {
        row: pool.submit(see, row, ())
        for row, image in chunk.each()
        if image.square is None and image.skipped is None
    }
    images = (again[row].result() if row in again else image for row, image in chunk.each())
    return Chunk(chunk.rows, tuple(images))


def _see(dataset: Dataset, size: int, interpolation: str, row: int, stored: Sequence[Snapshot]) -> Seen:
    start = time.perf_counter()
    seen = _look(dataset, size, interpolation, row, stored)
    return replace(seen, seconds=time.perf_counter() - start)


def _look(dataset: Dataset, size: int, interpolation: str, row: int, stored: Sequence[Snapshot]) -> Seen:
    data = dataset.read(row)
    if isinstance(data, Skipped):
        return Seen(skipped=data)
    # Where the data set knows it, reading has compared it already.
    known = dataset.contents[row] if dataset.contents else None
    content = known or hashlib.sha256(data).digest()
    places = [snapshot.find(content) for snapshot in stored]
    if places and min(places) >= 0:
        flags = _words(stored[0].flags(places[0]))
        # Another run may have accepted more: this one decodes the image, and says what is wrong with it.
        if _is_accepted(dataset, data, flags):
            return Seen(content, flags=flags)
    image = decode(data, at_least=size, limits=dataset.limits, accept_truncated=dataset.accept_truncated)
    if isinstance(image, Skipped):
        return Seen(content, skipped=image)
    return Seen(content, square=to_square(image.pixels, size, interpolation), flags=image.flags)


def _is_accepted(dataset: Dataset, data: bytes, flags: Sequence[str]) -> bool:
    """Whether an image with these remarks, which a run has used, may be used in this one too."""
    if "truncated" in flags and not dataset.accept_truncated:
        return False
    may_be_large = "large" in flags or dataset.limits.max_pixels < USUAL.max_pixels
    return not may_be_large or fits(data, dataset.limits)


def bits(flags: Sequence[str]) -> int:
    """Remarks as the bits that a store keeps."""
    return sum(1 << FLAGS.index(flag) for flag in flags)


def _words(stored: int) -> tuple[str, ...]:
    return tuple(flag for place, flag in enumerate(FLAGS) if stored >> place & 1)
