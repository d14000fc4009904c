"""Prediction sets: the classes that an image may have, the true one among them in a chosen share of images.

Split conformal prediction: on images that the model was not trained on, how improbable was the true class? A
set holds every class that is no more improbable than the true one was in that share of the images. For images
like those it holds the true class in at least that share, whatever the model is, if one model predicted both
(Vovk et al. 2005; least ambiguous sets, Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341). Here the
thresholds come from calibrations of a half of the images or of the other folds, close to the model's own but
not it: so the share is approximate, and it is counted again on images that nothing was fitted to.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from assay.errors import UsageError
from assay.types import Labels, Probs

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999)
"""The shares that thresholds are kept for."""


def conformal_thresholds(probs: Probs, truth: Labels) -> dict[str, float]:
    """Coverage, written as text, -> the least probability of a class in a set.

    A coverage that the images are too few for is left out: n images reach n / (n + 1).

    Parameters
    ----------
    probs : P(class) (N, K) of images that the model was not trained on
    truth : (N,) class indices
    """
    n, found = len(truth), {}
    of_true = np.sort(probs[np.arange(n), truth])[::-1]
    for coverage in COVERAGES:
        rank = math.ceil((n + 1) * coverage)
        if rank <= n:
            found[f"{coverage:g}"] = float(of_true[rank - 1])
    return found


def threshold_for(coverage: float, thresholds: Mapping[str, float]) -> float:
    """The threshold of the least coverage kept that is as large as ``coverage``.

    Raises
    ------
    UsageError : none is, or none is kept
    """
    if not thresholds:
        raise UsageError("--coverage: expected a model with thresholds for it, got one without; run it again")
    kept = sorted((float(share), least) for share, least in thresholds.items())
    enough = [least for share, least in kept if share >= coverage]
    if not enough or coverage <= 0:
        raise UsageError(
            f"--coverage: expected more than 0 and at most {kept[-1][0]:g}, for which the model has "
            f"trusted images enough, got {coverage:g}"
        )
    return enough[0]


def prediction_sets(probs: Probs, threshold: float) -> Bool[np.ndarray, "N K"]:
    """The classes in the set of each image (N, K): those from the threshold on, and always the likeliest."""
    sets = probs >= threshold
    sets[np.arange(len(probs)), probs.argmax(axis=1)] = True
    return sets
