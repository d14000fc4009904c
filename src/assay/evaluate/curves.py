"""Two curves in a few numbers: whether probabilities come true, and what is wrong among the surest images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluate.confidence import bin_of, risk_coverage
from assay.evaluate.intervals import wilson
from assay.noise.intervals import Interval
from assay.types import Labels, Probs

STEPS = 20
"""Points of the risk-coverage curve: every twentieth of the images."""


@dataclass(frozen=True)
class Bin:
    """Images of about one confidence, and how many of them were right."""

    low: float
    """Confidences above this and up to ``high`` are in the bin."""
    high: float
    n: int
    """At least 1."""
    confidence: float
    """Mean of P(predicted class)."""
    right: Interval
    """Share that was right, with Wilson's interval."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts and numbers."""
        return {**vars(self), "right": self.right.to_json()}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Bin":
        """What ``to_json`` gave, read back."""
        return Bin(**{**found, "right": Interval(**found["right"])})


@dataclass(frozen=True)
class Covered:
    """The surest images, and the share of mistakes among them."""

    coverage: float
    """Share of all images, in (0, 1]."""
    n: int
    confidence: float
    """The least of them."""
    risk: float
    """Share of mistakes; images of one confidence share theirs evenly."""

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return dict(vars(self))


def reliability(probs: Probs, truth: Labels, bins: int = 15) -> tuple[Bin, ...]:
    """The bins of ``expected_calibration_error`` that hold an image, the least confident first.

    Parameters
    ----------
    probs, truth, bins : as there

    Source : Guo et al. (2017), arXiv:1706.04599
    """
    confidence, right = probs.max(axis=1).astype(float), probs.argmax(axis=1) == truth
    at = bin_of(confidence, bins)
    n = np.bincount(at, minlength=bins)
    means = np.bincount(at, weights=confidence, minlength=bins) / np.maximum(n, 1)
    hits = np.bincount(at, weights=right, minlength=bins).astype(int)
    return tuple(
        Bin(i / bins, (i + 1) / bins, int(n[i]), float(means[i]), wilson(int(hits[i]), int(n[i])))
        for i in np.flatnonzero(n).tolist()
    )


def covered(probs: Probs, truth: Labels, steps: int = STEPS) -> tuple[Covered, ...]:
    """Points of the risk-coverage curve, ``steps`` at most, the last one for all images.

    Parameters
    ----------
    probs, truth : as for ``risk_coverage``
    steps : at least 1
    """
    total, risk = len(truth), risk_coverage(probs, truth)
    sorted_down = np.sort(probs.max(axis=1).astype(float))[::-1]
    counts = sorted({-(-total * step // steps) for step in range(1, steps + 1)})
    return tuple(Covered(n / total, n, float(sorted_down[n - 1]), float(risk[n - 1])) for n in counts)
