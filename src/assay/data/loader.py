"""Images of a data set -> batches of pixels: the only place where bytes become pixels, for all steps.

Threads read, hash and decode a few batches ahead of the caller; only resized images wait in memory. The first
look at many images is left to worker processes, which a hostile file may hang or crash.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from assay.data.dataset import Dataset, ImageSource
from assay.data.decode import Damage, DecodedImage, decode, decode_opened, size_in_header
from assay.data.files import USUAL, Limits, Skipped, read_named
from assay.data.resize import TargetSize, to_square
from assay.data.workers import DecoderPool
from assay.types import Matrix, Rows

BATCH = 256  # images of a batch: features are computed and stored by whole batches
AHEAD = 3  # batches that may be decoded before they are needed
GROUP, GROUP_BYTES = 16, 1 << 20  # files that go to a process together: so many, or of so many bytes
FEW = 64  # images for which no process is started: decoding them takes less time than that
THUMBNAIL_TYPE = "image/webp"

Known = Callable[[bytes], tuple[str, ...] | None]
"""sha256 of an image's bytes -> its flags if it need not be decoded, else None."""

Picture = np.ndarray | Image.Image | Path | str | bytes
"""uint8 RGB (H, W, 3); Pillow's; the path of an image file; or its bytes."""


@dataclass(frozen=True)
class ImageBatch:
    """Some images of a data set: all usable ones are decoded, or none where all are known."""

    rows: Rows
    """(B,) of the data set, as they were asked for."""
    decoded: Rows
    """(M,) those among them that ``images`` holds."""
    images: tuple[UInt8[np.ndarray, "_ _ _ 3"] | Matrix, ...]
    """(M, S, S, 3) for each target; with ``damage``, for each target and variant. (M, D) of features."""
    contents: dict[int, bytes]
    """Row -> sha256 of its bytes, where they could be read."""
    skipped: dict[int, Skipped]
    """Row -> why the image cannot be used."""
    flags: dict[int, tuple[str, ...]]
    """Row -> warnings about an image that is used, where there are any: see ``data.decode.FLAGS``."""
    seconds: float
    """Spent on them by all threads together."""


def decode_all(content: bytes) -> None:
    """The ``Known`` that knows no image."""


def load(
    dataset: Dataset,
    targets: Sequence[TargetSize],
    rows: Rows | None = None,
    *,
    known: Known = decode_all,
    at_least: int | None = None,
    damage: Damage | None = None,
    batch_size: int | None = None,
    workers: int = 2,
) -> Generator[ImageBatch]:
    """Images in batches, in order; each is decoded once, whatever the number of targets. Of a data set of
    features, which are loaded already, a batch holds their rows.

    Parameters
    ----------
    rows : which images, each once; by default all
    known : which images need not be decoded. If one image of a batch must be, all are: a network's results
        may depend on the batch in their last bits, and a resumed run must have those of an unbroken one.
    at_least, damage : see ``data.decode.decode``
    batch_size : by default ``BATCH``
    workers : threads, and worker processes that decode for them
    """
    rows, step = np.arange(len(dataset)) if rows is None else rows, batch_size or BATCH
    if dataset.vectors is not None:
        yield from _rows_of(dataset, dataset.vectors, rows, step)
        return
    dataset.expect(rows)
    make = partial(
        decode,
        targets=tuple(targets),
        at_least=at_least,
        damage=damage,
        limits=dataset.limits,
        accept_truncated=dataset.accept_truncated,
    )
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode"))
        decode_files: Callable[[Sequence[bytes]], Iterable[DecodedImage | Skipped]]
        # A file that was decoded before, and has the same bytes, hangs or crashes nothing.
        if len(rows) > FEW and not dataset.contents:
            size, decode_files = GROUP, partial(stack.enter_context(DecoderPool(workers)).map, make)
        else:
            size, decode_files = 1, partial(map, make)
        # After Ctrl-C, or an error of the caller, the images that were read ahead are not needed any more.
        stopped = Event()
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        stack.callback(stopped.set)
        # Nor is what a thread waits for from a store, which may take a minute.
        stack.push(lambda error, *_: None if error is None else dataset.expect(None))

        def submit(some: Rows, known: Known) -> list[Future[list[_Image]]]:
            groups = (some[start : start + size] for start in range(0, len(some), size))
            return [threads.submit(_look, dataset, group, known, decode_files, stopped) for group in groups]

        parts = (rows[start : start + step] for start in range(0, len(rows), step))
        tasks = ((part, submit(part, known)) for part in parts)
        waiting = deque(islice(tasks, AHEAD))
        while waiting:
            part, futures = waiting.popleft()
            images = {image.row: image for future in futures for image in future.result()}
            waiting.extend(islice(tasks, 1))
            if any(image.images for image in images.values()):
                # A killed run may have stored a part of the batch; it is computed whole all the same.
                rest = [row for row, image in images.items() if not image.images and not image.skipped]
                again = submit(np.array(rest, dtype=np.int64), decode_all)
                images |= {image.row: image for future in again for image in future.result()}
            yield _batch(part, [images[row] for row in part.tolist()], targets)


def _rows_of(dataset: Dataset, vectors: Matrix, rows: Rows, step: int) -> Iterator[ImageBatch]:
    usable = dataset.usable
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        used, skipped = part[usable[part]], part[~usable[part]].tolist()
        why = {row: dataset.skipped[row] for row in skipped}
        yield ImageBatch(part, used, (vectors[used],), {}, why, {}, 0.0)


def load_together(dataset: Dataset, target: TargetSize, rows: Rows, *, workers: int = 2) -> ImageBatch:
    """The images at ``rows`` in one batch: ``.images[0]`` holds the usable ones, ``.decoded`` their rows."""
    batches = load(dataset, [target], rows, batch_size=max(len(rows), 1), workers=workers)
    return next(batches, None) or _batch(rows, [], [target])


def load_row(dataset: Dataset, row: int, *, at_least: int) -> DecodedImage | Skipped:
    """One image at the size that it is decoded at; ``at_least``: see ``data.decode.decode``."""
    data = dataset.read(row)
    if isinstance(data, Skipped):
        return data
    return decode(data, at_least=at_least, limits=dataset.limits, accept_truncated=dataset.accept_truncated)


def load_image(
    picture: Picture, target: TargetSize | None = None, limits: Limits = USUAL
) -> DecodedImage | Skipped:
    """One image of no data set, resized to ``target`` if there is one."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ValueError(
                "images: expected uint8 RGB arrays (H, W, 3) or (N, H, W, 3), "
                f"got {picture.dtype} {picture.shape}"
            )
        found: DecodedImage | Skipped = DecodedImage((picture,))
    elif isinstance(picture, Image.Image):
        found = decode_opened(picture, limits)
    else:
        data = picture if isinstance(picture, bytes) else read_named(Path(picture), limits.max_bytes)
        return data if isinstance(data, Skipped) else decode(data, [target] if target else [], limits=limits)
    if isinstance(found, Skipped) or target is None:
        return found
    return DecodedImage((to_square(found.pixels, *target),), found.flags)


def draw_thumbnail(images: ImageSource, row: int, side: int, limits: Limits = USUAL) -> bytes | Skipped:
    """One image as WebP of at most ``side`` pixels a side, for a page."""
    data = images.read(row)
    if isinstance(data, Skipped):
        return data
    found = decode(data, at_least=side, limits=limits, accept_truncated=True)
    if isinstance(found, Skipped):
        return found
    image = Image.fromarray(found.pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    # Encoded anew from its pixels: metadata, such as the place and the camera, do not leave the file.
    buffer = BytesIO()
    # Tiny images are shown enlarged, where the losses of WebP would be seen.
    image.save(buffer, "WEBP", quality=85, method=2, lossless=max(image.size) < 96)
    return buffer.getvalue()


def spread(rows: Int[np.ndarray, "R"], most: int) -> Int[np.ndarray, "M"]:
    """Up to ``most`` of the rows, evenly spaced."""
    chosen: np.ndarray = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return chosen


class _Image(NamedTuple):
    row: int
    content: bytes | None
    """sha256 of its bytes; None where they could not be read."""
    skipped: Skipped | None = None
    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = ()
    """Empty where it is skipped or known."""
    flags: tuple[str, ...] = ()
    seconds: float = 0.0


def _look(
    dataset: Dataset,
    rows: Rows,
    known: Known,
    decode_files: Callable[[Sequence[bytes]], Iterable[DecodedImage | Skipped]],
    stopped: Event,
) -> list[_Image]:
    """In a thread: read and hash some images, and decode those that are not known."""
    start, found = time.perf_counter(), list[_Image]()
    pending: list[tuple[_Image, bytes]] = []

    def decode_pending() -> None:
        decoded = decode_files([data for _, data in pending])
        for (image, _), one in zip(pending, decoded, strict=True):
            found.append(
                image._replace(skipped=one)
                if isinstance(one, Skipped)
                else image._replace(images=one.images, flags=one.flags)
            )
        pending.clear()

    for row in rows.tolist():
        if stopped.is_set():
            raise CancelledError
        data = dataset.read(row)
        if isinstance(data, Skipped):
            found.append(_Image(row, None, data))
            continue
        # Where the data set has a hash, reading has compared it already.
        content = (dataset.contents[row] if dataset.contents else None) or hashlib.sha256(data).digest()
        flags = known(content)
        if flags is not None and _is_accepted(dataset, data, flags):
            found.append(_Image(row, content, flags=flags))
            continue
        pending.append((_Image(row, content), data))
        if sum(len(waiting) for _, waiting in pending) >= GROUP_BYTES:
            decode_pending()
    decode_pending()
    each_s = (time.perf_counter() - start) / len(rows)
    return [image._replace(seconds=each_s) for image in found]


def _is_accepted(dataset: Dataset, data: bytes, flags: Sequence[str]) -> bool:
    """Whether an image that another run has used may be used with the options of this one."""
    if "truncated" in flags and not dataset.accept_truncated:
        return False
    may_be_large = "large" in flags or dataset.limits.max_pixels < USUAL.max_pixels
    return not may_be_large or size_in_header(data, dataset.limits) is not None


def _batch(rows: Rows, images: Sequence[_Image], targets: Sequence[TargetSize]) -> ImageBatch:
    decoded = [image for image in images if image.images]
    none = tuple(np.zeros((0, target.size, target.size, 3), dtype=np.uint8) for target in targets)
    return ImageBatch(
        rows,
        np.array([image.row for image in decoded], dtype=np.int64),
        tuple(np.stack(same) for same in zip(*(image.images for image in decoded), strict=True)) or none,
        {image.row: image.content for image in images if image.content is not None},
        {image.row: image.skipped for image in images if image.skipped is not None},
        {image.row: image.flags for image in images if image.flags},
        sum((image.seconds for image in images), 0.0),
    )
