"""Images in chunks of the dataset's order, read, hashed and decoded by threads ahead of the network.

Of every image only its small squares wait in memory, and only a few chunks of them.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
from jaxtyping import UInt8

from assay.data.dataset import Dataset, Skipped
from assay.data.decoders import decoders_for
from assay.data.forms import DecodeOptions, Make, TargetSize
from assay.data.images import FLAGS, fits
from assay.data.limits import USUAL
from assay.data.resize import Square

CHUNK = 256
"""Images that are computed and stored together."""

AHEAD = 3
"""Chunks that may be decoded before the network needs them."""


Known = Callable[[bytes], tuple[str, ...] | None]
"""sha256 of an image's bytes -> the remarks on it, if it need not be decoded; else None."""


def nothing(content: bytes) -> None:
    """Every image is decoded."""


@dataclass(frozen=True)
class Seen:
    """One image: skipped, or decoded, or neither because its features are stored."""

    content: bytes | None = None
    """sha256 of its bytes; None where they could not be read."""
    skipped: Skipped | None = None
    squares: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = ()
    """In each form that was asked for; of one side in each."""
    flags: tuple[str, ...] = ()
    """Remarks on an image that is not skipped."""
    seconds: float = 0.0
    """Time that a thread spent on it."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive images; either every usable one is decoded, or the features of all are stored."""

    rows: range
    images: tuple[Seen, ...]
    forms: tuple[TargetSize, ...]

    @property
    def contents(self) -> dict[int, bytes]:
        """Row -> sha256, where the image could be read."""
        return {row: image.content for row, image in self.each() if image.content is not None}

    @property
    def skipped(self) -> dict[int, Skipped]:
        """Row -> why it cannot be used."""
        return {row: image.skipped for row, image in self.each() if image.skipped is not None}

    @property
    def flags(self) -> dict[int, tuple[str, ...]]:
        """Row -> remarks, where there are any."""
        return {row: image.flags for row, image in self.each() if image.flags}

    def squares(self, form: TargetSize) -> dict[int, Square]:
        """Row -> square, of those that are decoded."""
        place = self.forms.index(form)
        return {row: image.squares[place] for row, image in self.each() if image.squares}

    def each(self) -> Iterator[tuple[int, Seen]]:
        """Row and image, in order."""
        return zip(self.rows, self.images, strict=True)


def read_chunks(
    dataset: Dataset,
    *forms: TargetSize,
    known: Known = nothing,
    workers: int = 2,
    first: int = 0,
) -> Iterator[Chunk]:
    """The dataset's images in chunks, in order; each is decoded once, whatever the number of forms.

    Parameters
    ----------
    forms : the first decides how large a JPEG is decoded; the others are made from the same pixels
    known : which images need not be decoded
    workers : threads, and processes that decode for them, see ``decoders_for``
    first : row to begin at
    """
    asked = DecodeOptions.of(dataset, *forms)
    every = range(len(dataset))
    parts = (every[start : start + CHUNK] for start in every[first::CHUNK])
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode"))
        make = stack.enter_context(decoders_for(len(dataset), workers))
        # After Ctrl-C, or an error in the network, nobody needs the images that nobody has begun.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        see = partial(_see, dataset, asked, make)
        tasks = ((rows, [pool.submit(see, row, known) for row in rows]) for rows in parts)
        waiting = deque(islice(tasks, AHEAD))
        while waiting:
            rows, futures = waiting.popleft()
            chunk = Chunk(rows, tuple(future.result() for future in futures), forms)
            waiting.extend(islice(tasks, 1))
            yield _completed(pool, chunk, see)


def _completed(pool: ThreadPoolExecutor, chunk: Chunk, see: Callable[..., Seen]) -> Chunk:
    """The chunk with all its usable images decoded, if one had to be.

    A killed run may have stored a part of the chunk. It is computed whole all the same, in the very
    batches of an unbroken run, whose results in the last bits are the network's own affair.
    """
    if not any(image.squares for image in chunk.images):
        return chunk
    again = {
        row: pool.submit(see, row, nothing)
        for row, image in chunk.each()
        if not image.squares and image.skipped is None
    }
    images = (again[row].result() if row in again else image for row, image in chunk.each())
    return replace(chunk, images=tuple(images))


def _see(dataset: Dataset, asked: DecodeOptions, make: Make, row: int, known: Known) -> Seen:
    start = time.perf_counter()
    seen = _look(dataset, asked, make, row, known)
    return replace(seen, seconds=time.perf_counter() - start)


def _look(dataset: Dataset, asked: DecodeOptions, make: Make, row: int, known: Known) -> Seen:
    data = dataset.read(row)
    if isinstance(data, Skipped):
        return Seen(skipped=data)
    # Where the data set knows it, reading has compared it already.
    content = (dataset.contents[row] if dataset.contents else None) or hashlib.sha256(data).digest()
    flags = known(content)
    # Another run may have accepted more: this one decodes the image, and says what is wrong with it.
    if flags is not None and _is_accepted(dataset, data, flags):
        return Seen(content, flags=flags)
    made = make(data, asked)
    return Seen(content, made) if isinstance(made, Skipped) else Seen(content, None, made.squares, made.flags)


def _is_accepted(dataset: Dataset, data: bytes, flags: Sequence[str]) -> bool:
    """Whether an image with these remarks, which a run has used, may be used in this one too."""
    if "truncated" in flags and not dataset.accept_truncated:
        return False
    may_be_large = "large" in flags or dataset.limits.max_pixels < USUAL.max_pixels
    return not may_be_large or fits(data, dataset.limits)


def bits(flags: Sequence[str]) -> int:
    """Remarks as the bits that a store keeps."""
    return sum(1 << FLAGS.index(flag) for flag in flags)


def words(stored: int) -> tuple[str, ...]:
    """The remarks that a store keeps as bits."""
    return tuple(flag for place, flag in enumerate(FLAGS) if stored >> place & 1)
