"""The notebook's baseline: colour histograms, logistic regression, noisy labels taken as true."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay._types import UNKNOWN, Mask, Matrix, Progress, silent
from assay.data.dataset import Dataset
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import embed_images
from assay.learn.linear import fit_logistic
from assay.learn.model import Model


@dataclass(frozen=True)
class Baseline:
    """The trained baseline and the features that it was trained on."""

    model: Model
    features: Matrix


def train_histogram(
    dataset: Dataset,
    learn: Mask,
    cache: Path,
    *,
    workers: int = 2,
    seed: int = 0,
    progress: Progress = silent,
) -> Baseline:
    """Fit on the given labels of the rows where ``learn``; the notebook let it see the holdout too."""
    backbone = HistogramBackbone()
    features = embed_images(
        dataset, backbone, cache, mirrored=False, workers=workers, progress=progress
    ).views[0]
    rows = np.flatnonzero(learn & (dataset.given != UNKNOWN))
    head = fit_logistic(features[rows], dataset.given[rows], len(dataset.classes), seed=seed)
    facts = {"recipe": "histogram", "seed": seed, "rows": len(rows)}
    model = Model(backbone.name, backbone.size, dataset.classes, head, titles=dataset.titles, facts=facts)
    return Baseline(model, features)
