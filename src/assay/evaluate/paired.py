"""Is one classifier better than another? Both are compared on the same images."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr

from assay.errors import DataError
from assay.noise.intervals import Interval, normal_quantile
from assay.types import Labels


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images: who was right where."""

    both_right: int
    only_first: int
    """Images that the first classifier alone got right."""
    only_second: int
    neither: int
    p_value: float
    """Two-sided: how often two equally good classifiers would differ as much by chance."""
    difference: Interval
    """Accuracy of the second minus accuracy of the first, in [-1, 1]."""

    @property
    def n(self) -> int:
        """Images that both classifiers predicted."""
        return self.both_right + self.only_first + self.only_second + self.neither

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)


def mcnemar(truth: Labels, first: Labels, second: Labels, level: float = 0.95) -> Paired:
    """McNemar's test of equal accuracy, and how far the accuracies are apart.

    Parameters
    ----------
    truth : class index of each image, none UNKNOWN
    first, second : predicted class indices; UNKNOWN, for no prediction, is a mistake
    level : of the interval, in (0, 1)

    Raises
    ------
    DataError : no image
    ValueError : labels of different length; a level that cannot be
    Source : McNemar (1947), doi:10.1007/BF02295996; mid-p, Fagerland, Lydersen & Laake (2013),
        doi:10.1186/1471-2288-13-91
    """
    for name, labels in (("first", first), ("second", second)):
        if len(labels) != len(truth):
            raise ValueError(f"expected {name} to predict {len(truth)} images, got {len(labels)} predictions")
    if len(truth) == 0:
        raise DataError("expected images that both classifiers predicted, got none: nothing to compare")
    first_right, second_right = first == truth, second == truth
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(second_right & ~first_right))
    return Paired(
        both_right=int(np.sum(first_right & second_right)),
        only_first=only_first,
        only_second=only_second,
        neither=int(np.sum(~first_right & ~second_right)),
        p_value=mid_p(only_first, only_second),
        difference=paired_difference(only_first, only_second, len(truth), level),
    )


def mid_p(only_first: int, only_second: int) -> float:
    """Two-sided mid-p value of ``only_first`` and ``only_second`` if each image fell to either by a coin."""
    # The exact test is too conservative; the chi-square test is wrong where few images differ.
    fewer, tossed = min(only_first, only_second), only_first + only_second
    # Twice the tail up to `fewer`, less half of `fewer` on both sides: the tails up to it and below it.
    below = float(bdtr(fewer - 1, tossed, 0.5)) if fewer else 0.0
    return min(1.0, float(bdtr(fewer, tossed, 0.5)) + below)


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> Interval:
    """Accuracy of the second minus that of the first with Bonett and Price's interval.

    A Wald interval after one image was added to each way of differing, recommended for small n too by
    Fagerland, Lydersen & Laake (2014), doi:10.1002/sim.6148.

    Source : Bonett & Price (2012), doi:10.3102/1076998611411915
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = normal_quantile(level) * math.sqrt((first + second - (second - first) ** 2) / (n + 2))
    estimate = (only_second - only_first) / n
    return Interval(estimate, max(-1.0, second - first - half), min(1.0, second - first + half), level)
