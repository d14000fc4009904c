"""embed_images: every image of a Dataset through a Backbone, once.

Images are taken in chunks of the dataset's order. A chunk is stored whole or not at all, so a run
that was killed goes on with the very batches that an unbroken run would have computed, and ends with
the same bytes. Threads read, hash and decode ahead of the network; only small squares wait in memory.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from assay._types import Backbone, Matrix, Pixels, Progress, silent
from assay.data.dataset import Dataset, Skipped
from assay.data.images import FLAGS, decode, to_square
from assay.embed.cache import FeatureStore, Snapshot

CHUNK = 256
"""Images that are stored together."""

AHEAD = 3
"""Chunks that may be decoded before the network needs them."""


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
    """Images that were not in the cache."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """``decode`` (all threads together) and ``embed`` (the network)."""


@dataclass
class _Chunk:
    """What is known of some consecutive images; a row is in ``skipped`` or in ``contents`` and ``flags``."""

    rows: range
    contents: dict[int, bytes] = field(default_factory=dict)
    skipped: dict[int, Skipped] = field(default_factory=dict)
    flags: dict[int, int] = field(default_factory=dict)
    squares: dict[int, Pixels] = field(default_factory=dict)
    """Decoded images: none of them when all features are stored, otherwise every usable one."""
    seconds: float = 0.0


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
    """
    views = ("plain", "mirror") if mirrored else ("plain",)
    stores = [
        FeatureStore(cache / "features" / f"{backbone.digest[:24]}-{view}", backbone.width) for view in views
    ]
    collected = _Collected()
    for chunk in _chunks(dataset, backbone.size, [store.snapshot() for store in stores], workers):
        start = time.perf_counter()
        if chunk.squares:
            _compute(chunk, backbone, stores)
        collected.add(chunk, time.perf_counter() - start)
        progress("embed", chunk.rows.stop, len(dataset))
    return collected.features(stores)


@dataclass(frozen=True)
class Streamed:
    """The features of some consecutive images, computed and not stored."""

    rows: range
    features: Matrix
    """(len(rows), D) float32; zeros where skipped."""
    skipped: Mapping[int, Skipped]
    flags: Mapping[int, tuple[str, ...]]


def stream_features(dataset: Dataset, backbone: Backbone, *, workers: int = 2) -> Iterator[Streamed]:
    """Features chunk by chunk, in order, past the cache: for new images, however many."""
    for chunk in _chunks(dataset, backbone.size, [], workers):
        features = np.zeros((len(chunk.rows), backbone.width), dtype=np.float32)
        rows = sorted(chunk.squares)
        if rows:
            places = [row - chunk.rows.start for row in rows]
            features[places] = backbone.embed(np.stack([chunk.squares[row] for row in rows]))
        yield Streamed(chunk.rows, features, chunk.skipped, _names(chunk.flags))


def _names(flags: Mapping[int, int]) -> dict[int, tuple[str, ...]]:
    """Bits to words, for the images that have any."""
    return {
        row: tuple(flag for i, flag in enumerate(FLAGS) if bits >> i & 1)
        for row, bits in flags.items()
        if bits
    }


def _chunks(dataset: Dataset, size: int, snapshots: list[Snapshot], workers: int) -> Iterator[_Chunk]:
    """Chunks in order, a few of them read ahead."""
    ranges = (range(start, min(start + CHUNK, len(dataset))) for start in range(0, len(dataset), CHUNK))
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        tasks = (pool.submit(_read, dataset, rows, size, snapshots) for rows in ranges)
        waiting: list[Future[_Chunk]] = list(islice(tasks, AHEAD))
        while waiting:
            chunk = waiting.pop(0).result()
            waiting.extend(islice(tasks, 1))
            yield chunk


def _read(dataset: Dataset, rows: range, size: int, snapshots: list[Snapshot]) -> _Chunk:
    start = time.perf_counter()
    chunk = _Chunk(rows)
    for row in rows:
        _read_one(dataset, row, size, snapshots, chunk)
    if chunk.squares:
        # The chunk is computed whole, so the images that were known are needed as well.
        for row in rows:
            if row not in chunk.squares and row not in chunk.skipped:
                _read_one(dataset, row, size, [], chunk)
    chunk.seconds = time.perf_counter() - start
    return chunk


def _read_one(dataset: Dataset, row: int, size: int, snapshots: list[Snapshot], chunk: _Chunk) -> None:
    data = dataset.skipped.get(row) or dataset.source.read(row)
    if isinstance(data, Skipped):
        chunk.skipped[row] = data
        return
    content = chunk.contents[row] = hashlib.sha256(data).digest()
    stored = [snapshot.find(content) for snapshot in snapshots]
    if stored and min(stored) >= 0:
        chunk.flags[row] = snapshots[0].flags(stored[0])
        return
    image = decode(data, at_least=size)
    if isinstance(image, Skipped):
        chunk.skipped[row] = image
    else:
        chunk.flags[row] = sum(1 << FLAGS.index(flag) for flag in image.flags)
        chunk.squares[row] = to_square(image.pixels, size)


def _compute(chunk: _Chunk, backbone: Backbone, stores: list[FeatureStore]) -> None:
    rows = sorted(chunk.squares)
    images = np.stack([chunk.squares[row] for row in rows])
    contents, flags = [chunk.contents[row] for row in rows], [chunk.flags[row] for row in rows]
    for store, batch in zip(stores, (images, images[:, :, ::-1]), strict=False):
        store.append(contents, flags, backbone.embed(np.ascontiguousarray(batch)))


@dataclass
class _Collected:
    """The chunks so far, without their pixels."""

    contents: list[bytes | None] = field(default_factory=list)
    skipped: dict[int, Skipped] = field(default_factory=dict)
    flags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    computed: int = 0
    decode_s: float = 0.0
    embed_s: float = 0.0

    def add(self, chunk: _Chunk, embed_s: float) -> None:
        self.contents += [chunk.contents.get(row) for row in chunk.rows]
        self.skipped |= chunk.skipped
        self.flags |= _names(chunk.flags)
        self.computed += len(chunk.squares)
        self.decode_s += chunk.seconds
        self.embed_s += embed_s

    def features(self, stores: list[FeatureStore]) -> Features:
        views = []
        for store in stores:
            snapshot = store.snapshot()
            rows = [
                -1 if content is None or row in self.skipped else snapshot.find(content)
                for row, content in enumerate(self.contents)
            ]
            views.append(store.gather(np.array(rows, dtype=np.int64)))
        seconds = {"decode": self.decode_s, "embed": self.embed_s}
        return Features(tuple(views), tuple(self.contents), self.skipped, self.flags, self.computed, seconds)
