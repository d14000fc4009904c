"""Squares: all images of a dataset as small pictures of one side, held outside memory, to learn from.

They are read in a pass of their own, or in that which embeds the images.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from assay.data.dataset import Dataset, Skipped
from assay.data.decoders import decoders_for
from assay.data.forms import DecodedImage, DecodeOptions, TargetSize
from assay.data.images import declared
from assay.data.squares import spread
from assay.embed.chunks import read_chunks
from assay.errors import ResourceError
from assay.types import Batch, Progress, silent

ZEROS = bytes(1 << 20)

TRIED = 256
"""Images whose sides decide that of the squares; they are spread evenly over the dataset."""


@contextmanager
def room_for_squares(dataset: Dataset, size: int, place: Path) -> Iterator[Batch]:
    """(N, s, s, 3) uint8, zeros until they are filled with what ``to_square`` makes; skipped images stay so.

    s is ``size``, or the longest side among the images if all are smaller: enlarging holds nothing that
    was not there, and costs memory. The file behind it has no name and goes with the process.

    Parameters
    ----------
    size : the largest side that the images will be seen at
    place : an existing folder, with room for N · s · s · 3 bytes

    Raises
    ------
    ResourceError : the disk is full
    """
    side = min(size, _longest_side(dataset, size))
    with _nameless(place, len(dataset) * side * side * 3) as file:
        yield np.memmap(file, np.uint8, "r+", shape=(len(dataset), side, side, 3))  # type: ignore[call-overload]  # takes open files too


def form_of(squares: Batch) -> TargetSize:
    """How images are held there."""
    return TargetSize(squares.shape[1])


def fill_squares(squares: Batch, dataset: Dataset, *, workers: int = 2, progress: Progress = silent) -> None:
    """Put every usable image into its place."""
    form = form_of(squares)
    for chunk in read_chunks(dataset, form, workers=workers):
        for row, square in chunk.squares(form).items():
            squares[row] = square
        progress("read", chunk.rows.stop, len(dataset))


@contextmanager
def _nameless(place: Path, length: int) -> Iterator[object]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=place))
            # Claimed now: a disk that is full later would kill the process in the middle of a write.
            _claim(file, max(length, 1))
        except OSError as error:
            raise ResourceError(
                f"{place}: expected room for {length:,} bytes of images to learn from: {error.strerror}"
            ) from error
        yield file


def _claim(file: IO[bytes], length: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
        return
    for start in range(0, length, len(ZEROS)):  # macOS, Windows
        file.write(ZEROS[: length - start])
    file.flush()


def _longest_side(dataset: Dataset, size: int) -> int:
    """Of the images that are looked at: the longest that a header declares, if that image can be used.

    Headers are read here, by the parsers; what is decoded is decoded as all images are.
    """
    declared_of = {}
    for row in spread(np.flatnonzero(dataset.usable), TRIED).tolist():
        data = dataset.read(row)
        found = None if isinstance(data, Skipped) else declared(data, dataset.limits)
        declared_of[row] = max(found) if found else 0
    asked = DecodeOptions.of(dataset, TargetSize(size))
    with decoders_for(len(dataset), 1) as make:
        for row in sorted(declared_of, key=lambda row: -declared_of[row]):
            data = dataset.read(row)
            if not isinstance(data, Skipped) and isinstance(make(data, asked), DecodedImage):
                return declared_of[row]
    return 1
