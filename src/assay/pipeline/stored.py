"""A finished run's data set, and its features from the cache; no network is loaded."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from assay.data.dataset import Dataset, ImageSource
from assay.embed.cache import find_store
from assay.embed.images import Features, embed_images
from assay.errors import DataError, UsageError
from assay.pipeline.finished import FinishedRun
from assay.pipeline.folder import contents_digest
from assay.pipeline.options import uses_flip_tta
from assay.types import UNKNOWN, Batch, Progress, silent


@dataclass(frozen=True)
class _Stored:
    """A backbone that only names features in the cache: it computes nothing."""

    digest: str
    size: int
    width: int
    where: Path
    name: str = "stored"
    interpolation: str = "bicubic"

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """UsageError: an image whose features are not there."""
        raise _missing(self.where, f"of {len(images):,} images or more are not all there")


def stored_features(
    run: FinishedRun, images: ImageSource, cache: Path, *, workers: int = 2, progress: Progress = silent
) -> tuple[Dataset, Features]:
    """The run's data, its holdout without trusted labels, and its features from the cache.

    Parameters
    ----------
    images : those of the run, in the order of labels.csv

    Raises
    ------
    UsageError : the cache does not have them all
    DataError : the images were changed since the run
    """
    trusted, decided = run.trusted.copy(), run.decided
    trusted[[*decided]] = UNKNOWN
    dataset = replace(run.dataset(images), trusted=trusted, decided=decided)
    backbone = run.record["backbone"]
    store = find_store(cache, backbone["digest"])
    if store is None:
        raise _missing(cache, "are not there")
    stored = _Stored(backbone["digest"], backbone["size"], store.width, cache)
    features = embed_images(
        dataset,
        stored,
        cache,
        mirrored=uses_flip_tta(run.record["settings"]["preset"]),
        workers=workers,
        progress=progress,
    )
    if contents_digest(features.contents) != run.record["data"]["contents"]:
        raise DataError(
            f"expected the images that {run.folder} was made from, got files that were changed since; "
            "name the place of the original images, or run again"
        )
    return features.seen(dataset), features


def _missing(cache: Path, what: str) -> UsageError:
    return UsageError(
        f"{cache}: expected the features that the run computed, but those {what}; name the run's cache with "
        "--cache, or give the run's command again"
    )
