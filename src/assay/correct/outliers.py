"""Outliers: drawings among photographs, noise, scans of text, pictures of another domain.

The score is the distance from images that are known to belong, in units of their own spread (Mahalanobis).
Distance to the nearest neighbours was tried too: on the course data it missed a hundred images of noise,
which are each other's neighbours; see benchmarks/LOG.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from assay.types import Mask, Matrix, PerImage

SHARE = 0.001
"""Of the images that belong, how many may be flagged."""

FEWEST = 200  # images needed to find any
FEWEST_TRUSTED = 2_000  # needed to measure the cut: half of fewer cannot show one false alarm in a thousand
MOST = 4_096  # images that the spread is measured on
CORE = 0.95  # share of a sample that is taken to belong: the rest, farthest out, may be outliers


@dataclass(frozen=True)
class Outliers:
    """How far each image is from those that belong."""

    score: PerImage
    """Distance divided by the cut: above 1 is an outlier."""
    rows: Int[np.ndarray, "F"]
    """The images above the cut, the farthest first."""
    share: float
    """False alarms: the share of images that belong that is above the cut."""
    calibrated_on: int
    """Trusted images that the cut was measured on; 0 where it was extrapolated from all scores."""
    expected: float
    """Images above the cut if all images belonged: as many found are no evidence."""

    def to_json(self) -> dict[str, Any]:
        """All but the scores."""
        return {
            "found": len(self.rows),
            "expected_if_all_belong": self.expected,
            "false_alarm_share": self.share,
            "calibrated_on": self.calibrated_on,
        }


def find_outliers(features: Matrix, trusted: Mask, *, share: float = SHARE, seed: int = 0) -> Outliers | None:
    """Score and rank; None with fewer than 200 images.

    With 2,000 trusted images or more, and as many as one false alarm takes, one half of them measures the
    spread and the other half the cut: of new images that belong, at most ``share`` lie beyond it, whatever
    their distribution (split conformal prediction, Vovk et al. 2005). Otherwise the tail of all scores is
    taken to be exponential, which gave 0.1 to 0.2 % for 0.1 % on the course data.

    Parameters
    ----------
    features : (N, D) standardised
    trusted : images that a person has checked: they belong, and are not flagged
    share : false alarms, in (0, 1)
    """
    if len(features) < FEWEST:
        return None
    generator = np.random.default_rng(seed)
    known = generator.permutation(np.flatnonzero(trusted))
    reference, rest = known[: len(known) // 2][:MOST], known[len(known) // 2 :]
    above = int(share * (len(rest) + 1))
    if len(known) >= FEWEST_TRUSTED and above:
        scores, calibrated_on = _distances(features, features[reference]), len(rest)
        cut = float(np.sort(scores[rest])[-above])
    else:
        scores, calibrated_on = np.empty(len(features)), 0
        halves = np.array_split(generator.permutation(len(features)), 2)
        for own, other in (halves, halves[::-1]):
            # From a core that the image is no part of: from inside, everything looks close.
            scores[own] = _distances(features[own], _core(features[other[:MOST]]))
        # Where an exponential tail through the quantiles 0.8 and 0.95 has ``share`` beyond it.
        low, high = np.quantile(scores, [0.8, 0.95])
        cut = float(low + (high - low) / np.log(4.0) * np.log(0.2 / share))
    beyond = np.flatnonzero((scores > cut) & ~trusted)
    rows = beyond[np.argsort(-scores[beyond], kind="stable")]
    # Of images that are all alike nothing is far out, and there is no distance to divide by.
    apart = scores / cut if cut > 0 else np.where(scores > cut, np.finfo(np.float64).max, 0.0)
    return Outliers(apart, rows, share, calibrated_on, share * int(np.sum(~trusted)))


def _core(features: Matrix) -> Float[np.ndarray, "R D"]:
    """What is left when the farthest are set aside twice (the C-steps of Rousseeuw & Van Driessen 1999)."""
    scores = np.linalg.norm(features, axis=1)
    for _ in range(2):
        scores = _distances(features, features[scores <= np.quantile(scores, CORE)])
    core: Float[np.ndarray, "R D"] = features[scores <= np.quantile(scores, CORE)]
    return core


def _distances(features: Matrix, reference: Float[np.ndarray, "R D"]) -> PerImage:
    """Mahalanobis distance of each row from the reference."""
    n, d = reference.shape
    mean = reference.mean(axis=0)
    centred = reference - mean
    variance, axes = np.linalg.eigh(centred.T @ centred / n)
    # The fewer images, the less is known of the narrow directions, and the more a ridge has to hold them.
    ridge = min(0.1, 0.05 * d / n)
    whiten = axes / np.sqrt(np.maximum(variance, 0.0) + ridge)
    parts = np.array_split(features, 1 + len(features) // MOST)  # for the memory
    scores = [np.linalg.norm((part - mean) @ whiten, axis=1) for part in parts]
    return np.concatenate(scores).astype(np.float64)
