"""The notebook's baseline: colour histograms, logistic regression, noisy labels taken as true."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from assay.data.dataset import Dataset
from assay.embed.histogram import HistogramBackbone
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.train.linear import fit_logistic
from assay.types import UNKNOWN, Mask, Matrix, Probs, Rows


@dataclass(frozen=True)
class Baseline:
    """The trained baseline and the features of all images."""

    model: Model
    features: Matrix

    def says(self, rows: Rows) -> Probs:
        """P(class) of the images at ``rows``."""
        return self.model.probabilities(self.features[rows])


def train_histogram(dataset: Dataset, learn: Mask, features: Matrix) -> Baseline:
    """Fit on the given labels of the rows where ``learn``; the notebook let it see the holdout too.

    Parameters
    ----------
    features : (N, 15), by a ``HistogramBackbone``
    """
    rows = np.flatnonzero(learn & (dataset.noisy != UNKNOWN))
    head = fit_logistic(features[rows], dataset.noisy[rows], len(dataset.classes))
    facts = {"system": "histogram", "rows": len(rows)}
    return Baseline(histogram_model(dataset, HistogramBackbone(), head, facts), features)


def histogram_model(
    dataset: Dataset, backbone: HistogramBackbone, head: Layers, facts: Mapping[str, object]
) -> Model:
    """The model of a head on colour histograms."""
    return Model(backbone.name, backbone.size, dataset.classes, head, titles=dataset.titles, facts=facts)
