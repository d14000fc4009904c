"""Nearest trusted images, by the features that the run has in its cache.

Only the trusted images have to be looked up beforehand, which is done beside the first pages; an image's
own features are found when it is shown.
"""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from assay.correct.near_duplicates import unit_rows
from assay.data.dataset import Skipped
from assay.embed.cache import FeatureStore, Snapshot, find_store
from assay.review.run import ReviewRun
from assay.types import UNKNOWN, Matrix

MOST = 20_000
"""Trusted images that are compared with, picked at random from more."""

SHOWN = 5


@dataclass(frozen=True)
class Neighbour:
    """A trusted image that looks alike."""

    row: int
    similarity: float
    """Cosine of standardised features, [-1, 1]."""


@dataclass(frozen=True)
class _Known:
    """The trusted images as unit vectors."""

    snapshot: Snapshot
    rows: Int[np.ndarray, "M"]
    mean: Float[np.ndarray, "D"]
    spread: Float[np.ndarray, "D"]
    directions: Matrix


class Neighbours:
    """Finds the trusted images nearest to any image; knows none until it has looked them up."""

    def __init__(self, run: ReviewRun, cache: Path | None) -> None:
        self._run = run
        self._store = None if cache is None else find_store(cache, run.digest)
        self._known: _Known | None = None
        self.is_ready = self._store is None
        """False while the trusted images are still being looked up."""

    def start(self) -> threading.Thread:
        """Look the trusted images up, in a thread of its own."""
        thread = threading.Thread(target=self.load, name="neighbours", daemon=True)
        thread.start()
        return thread

    def load(self) -> None:
        """Look the trusted images up now."""
        try:
            if self._store is not None:
                self._known = _look_up(self._run, self._store)
        finally:
            self.is_ready = True

    def nearest(self, row: int, count: int = SHOWN) -> list[Neighbour]:
        """The nearest first; empty where that is not known."""
        known = self._known
        place = -1 if known is None else _find(self._run, known.snapshot, row)
        if known is None or place < 0:
            return []
        own = _directions(known.snapshot.rows[place][None].astype(np.float32), known.mean, known.spread)
        similarity = known.directions @ own[0]
        similarity[known.rows == row] = -np.inf
        best = np.argsort(-similarity, kind="stable")[:count]
        return [
            Neighbour(int(known.rows[i]), float(similarity[i])) for i in best if np.isfinite(similarity[i])
        ]


def _look_up(run: ReviewRun, store: FeatureStore) -> _Known | None:
    rows = np.flatnonzero(run.trusted != UNKNOWN)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    snapshot = store.snapshot()
    places = np.array([_find(run, snapshot, row) for row in rows.tolist()], dtype=np.int64)
    rows, places = rows[places >= 0], places[places >= 0]
    if not len(rows):
        return None
    features = snapshot.rows[places].astype(np.float32)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread < 1e-6] = 1.0
    return _Known(snapshot, rows, mean, spread, _directions(features, mean, spread))


def _find(run: ReviewRun, snapshot: Snapshot, row: int) -> int:
    data = run.images.read(row)
    return -1 if isinstance(data, Skipped) else snapshot.find(hashlib.sha256(data).digest())


def _directions(values: Matrix, mean: Float[np.ndarray, "D"], spread: Float[np.ndarray, "D"]) -> Matrix:
    return unit_rows((values - mean) / spread)
