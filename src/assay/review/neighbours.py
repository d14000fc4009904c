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
class _Trusted:
    """The M trusted images whose features are in the cache."""

    snapshot: Snapshot
    rows: Int[np.ndarray, "M"]
    mean: Float[np.ndarray, "D"]
    spread: Float[np.ndarray, "D"]
    directions: Matrix
    """Unit vectors of the standardised features."""


class Neighbours:
    """Finds the trusted images most similar to any image; finds none until they are loaded."""

    def __init__(self, run: ReviewRun, cache: Path) -> None:
        self._run = run
        self._store = find_store(cache, str(run.record.get("backbone", {}).get("digest", "")))
        self._trusted: _Trusted | None = None

    def start(self) -> threading.Thread:
        """Load the trusted images in a thread, while the first pages are shown."""
        thread = threading.Thread(target=self.load, name="neighbours", daemon=True)
        thread.start()
        return thread

    def load(self) -> None:
        """Load the features of the trusted images, if the cache has any."""
        if self._store is None:
            return
        rows = np.flatnonzero(self._run.trusted != UNKNOWN)
        if len(rows) > MAX_COMPARED:
            rows = np.sort(np.random.default_rng(0).choice(rows, MAX_COMPARED, replace=False))
        snapshot = self._store.snapshot()
        places = np.array([self._find(snapshot, row) for row in rows.tolist()], dtype=np.int64)
        rows, places = rows[places >= 0], places[places >= 0]
        if not len(rows):
            return
        features = snapshot.rows[places].astype(np.float32)
        mean, spread = features.mean(axis=0), features.std(axis=0)
        spread[spread < 1e-6] = 1.0  # constant features would be divided by 0
        # In one step: pages are asked for while this thread runs.
        self._trusted = _Trusted(snapshot, rows, mean, spread, unit_rows((features - mean) / spread))

    def nearest(self, row: int, count: int = SHOWN) -> list[int]:
        """Rows of trusted images, the most similar first; empty where features are missing."""
        trusted = self._trusted
        place = -1 if trusted is None else self._find(trusted.snapshot, row)
        if trusted is None or place < 0:
            return []
        features = trusted.snapshot.rows[place][None].astype(np.float32)
        direction = unit_rows((features - trusted.mean) / trusted.spread)[0]
        similarity = trusted.directions @ direction  # cosine of standardised features
        similarity[trusted.rows == row] = -np.inf  # a trusted image is not its own neighbour
        best = np.argsort(-similarity, kind="stable")[:count]
        return [int(trusted.rows[i]) for i in best if np.isfinite(similarity[i])]

    def _find(self, snapshot: Snapshot, row: int) -> int:
        data = self._run.images.read(row)
        # The cache knows an image by the bytes of its file; -1 if it does not.
        return -1 if isinstance(data, Skipped) else snapshot.find(hashlib.sha256(data).digest())
