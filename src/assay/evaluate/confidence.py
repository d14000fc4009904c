"""Are the probabilities as good as they say? Scores that a sure mistake hurts."""

import numpy as np

from assay.types import Labels, PerImage, Probs

FLOOR = 1e-12
"""A smaller P(true class) counts as this, so that one sure mistake leaves the mean finite."""


def expected_calibration_error(probs: Probs, truth: Labels, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, in [0, 1]; 0 is best.

    Images are put into ``bins`` equally wide bins by the probability of their predicted class; the
    distance is taken in each bin and weighted by its images.

    Parameters
    ----------
    probs : Float[ndarray, "N K"]  P(class) of each image
    truth : Int[ndarray, "N"]      class index of each image, none UNKNOWN, N at least 1
    bins : at least 1

    Source : Guo et al. (2017), arXiv:1706.04599, after Naeini et al. (2015)
    """
    confidence = probs.max(axis=1).astype(float)
    hit = probs.argmax(axis=1) == truth
    gaps = np.bincount(bin_of(confidence, bins), weights=confidence - hit, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def bin_of(confidence: PerImage, bins: int) -> Labels:
    """Which of ``bins`` equally wide bins each confidence lies in, from 0."""
    # A bin is open below: a confidence of exactly 1/3 lies in the last of three thirds up to 1/3.
    found: Labels = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return found


def negative_log_likelihood(probs: Probs, truth: Labels) -> float:
    """Mean of -log P(true class), natural log, in nats; 0 is best, log K is a uniform guess."""
    return float(-np.log(np.maximum(_of_truth(probs, truth), FLOOR)).mean())


def brier(probs: Probs, truth: Labels) -> float:
    """Mean squared distance between the probabilities and the truth, summed over classes, in [0, 2].

    Source : Brier (1950), doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """
    # |p - e|² = |p|² - 2 p[true] + 1, without the N × K matrix of the truth
    squares = np.square(probs.astype(float)).sum(axis=1)
    return float((squares - 2 * _of_truth(probs, truth) + 1).mean())


def risk_coverage(probs: Probs, truth: Labels) -> PerImage:
    """Share of mistakes among the n most confident images, at [n - 1], for n from 1 to N.

    Images of one confidence share their mistakes evenly, so the order of the rows does not matter.

    Source : Geifman & El-Yaniv (2017), arXiv:1705.08500
    """
    mistake = probs.argmax(axis=1) != truth
    _, group = np.unique(-probs.max(axis=1), return_inverse=True)
    size = np.bincount(group)
    share = np.bincount(group, weights=mistake) / size
    risk: PerImage = np.cumsum(np.repeat(share, size)) / np.arange(1, len(truth) + 1)
    return risk


def _of_truth(probs: Probs, truth: Labels) -> PerImage:
    """P(true class) of each image, float64."""
    picked: PerImage = probs[np.arange(len(truth)), truth].astype(float)
    return picked
