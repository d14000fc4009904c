"""The most similar trusted images of an image, by the features in the run's cache."""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from assay.correct.near_duplicates import unit_rows
from assay.data.dataset import Skipped
from assay.embed.cache import Snapshot, find_store
from assay.review.run import ReviewRun
from assay.types import UNKNOWN, Matrix

MAX_COMPARED = 20_000
"""Trusted images to compare with, drawn at random from more."""

SHOWN = 5


@dataclass(frozen=True)
class Neighbour:
    """A similar trusted image."""

    row: int
    similarity: float
    """Cosine of standardised features, [-1, 1]."""


@dataclass(frozen=True)
class _Trusted:
    """The M trusted images whose features are in the cache."""

    snapshot: Snapshot
    rows: Int[np.ndarray, "M"]
    mean: Float[np.ndarray, "D"]
    spread: Float[np.ndarray, "D"]
    directions: Matrix
    """Unit vectors of the standardised features."""

    def direction(self, features: Matrix) -> Matrix:
        """Features as unit vectors, standardised as those of the trusted images."""
        return unit_rows((features.astype(np.float32) - self.mean) / self.spread)


class Neighbours:
    """Finds the trusted images most similar to any image; finds none until they are loaded."""

    def __init__(self, run: ReviewRun, cache: Path | None) -> None:
        self._run = run
        self._store = None if cache is None else find_store(cache, run.digest)
        self._trusted: _Trusted | None = None
        self.is_ready = self._store is None
        """False while the trusted images are being loaded."""

    def start(self) -> threading.Thread:
        """Load the trusted images in a thread, while the first pages are shown."""
        thread = threading.Thread(target=self.load, name="neighbours", daemon=True)
        thread.start()
        return thread

    def load(self) -> None:
        """Load the features of the trusted images."""
        try:
            self._trusted = self._load_trusted()
        finally:
            self.is_ready = True

    def nearest(self, row: int, count: int = SHOWN) -> list[Neighbour]:
        """The most similar first; empty where features are missing."""
        trusted = self._trusted
        place = -1 if trusted is None else self._find(trusted.snapshot, row)
        if trusted is None or place < 0:
            return []
        similarity = trusted.directions @ trusted.direction(trusted.snapshot.rows[place][None])[0]
        similarity[trusted.rows == row] = -np.inf
        best = np.argsort(-similarity, kind="stable")[:count]
        return [
            Neighbour(int(trusted.rows[i]), float(similarity[i])) for i in best if np.isfinite(similarity[i])
        ]

    def _load_trusted(self) -> _Trusted | None:
        if self._store is None:
            return None
        rows = np.flatnonzero(self._run.trusted != UNKNOWN)
        if len(rows) > MAX_COMPARED:
            rows = np.sort(np.random.default_rng(0).choice(rows, MAX_COMPARED, replace=False))
        snapshot = self._store.snapshot()
        places = np.array([self._find(snapshot, row) for row in rows.tolist()], dtype=np.int64)
        rows, places = rows[places >= 0], places[places >= 0]
        if not len(rows):
            return None
        features = snapshot.rows[places].astype(np.float32)
        mean, spread = features.mean(axis=0), features.std(axis=0)
        spread[spread < 1e-6] = 1.0  # constant features would be divided by 0
        return _Trusted(snapshot, rows, mean, spread, unit_rows((features - mean) / spread))

    def _find(self, snapshot: Snapshot, row: int) -> int:
        """The place of an image's features, which the cache keeps by the bytes of the file; -1 if missing."""
        data = self._run.images.read(row)
        return -1 if isinstance(data, Skipped) else snapshot.find(hashlib.sha256(data).digest())
