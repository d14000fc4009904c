"""A learning curve: accuracy by the number of training labels, and its extrapolation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from assay.noise.intervals import Interval

# Of the fall, from hardly to three times as steep as 1 / sqrt(n), the usual one first.
SLOPES = np.array(sorted(np.linspace(0.1, 1.5, 57).tolist(), key=lambda slope: abs(slope - 0.5)))
DRAWS = 1_000  # times that the images are drawn anew

Curves = Float[np.ndarray, "B S"]


@dataclass(frozen=True)
class Expected:
    """The accuracy that a number of labels would probably give."""

    n: int
    accuracy: Interval
    gain: Interval
    """Over the accuracy at the present number; never negative."""


@dataclass(frozen=True)
class LearningCurve:
    """Measured accuracies at several numbers of training labels."""

    sizes: Int[np.ndarray, "S"]
    """Numbers of training labels, at least two, ascending."""
    right: Bool[np.ndarray, "S T"]
    """Whether each of T images, none of them trained on, was right."""
    effect: float = 1.0
    """Design effect of images in groups: they are redrawn as so many times fewer."""

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or len(self.sizes) != len(self.right) or not self.right.shape[1]:
            raise ValueError(
                f"expected two sizes or more with a row of images each, got {len(self.sizes)} sizes and "
                f"right of shape {self.right.shape}"
            )

    @property
    def accuracy(self) -> Float[np.ndarray, "S"]:
        """The share that was right at each size."""
        shares: Float[np.ndarray, "S"] = self.right.mean(axis=1)
        return shares

    def expect(self, present: int, numbers: Sequence[int], *, level: float = 0.95) -> list[Expected]:
        """Accuracy at each of ``numbers`` labels, and the gain over ``present`` ones.

        The error is taken to fall as ``floor + scale · n ** -slope`` (Hestness et al. 2017,
        arXiv:1712.00409). The intervals are of the true curve's value, not of the accuracy of a single model,
        which varies by chance. They come from fitting that shape again to redrawn images, so they are wide
        where the curve is short or bent, but do not allow for another shape.
        """
        # Each size is redrawn by itself, which also stands for chance in training. The true share is drawn
        # first (Jeffreys' prior): that all of a few were right is not certainty.
        n, right = math.ceil(self.right.shape[1] / self.effect), self.right.sum(axis=1) / self.effect
        generator = np.random.default_rng(0)
        shares = generator.beta(right + 0.5, n - right + 0.5, (DRAWS, len(self.sizes)))
        errors = 1 - np.vstack([self.accuracy, generator.binomial(n, shares) / n])
        # An error e of n images has the variance e (1 - e) / n; e is that of the curve through the measured
        # ones: a size at which by chance all of a few were right is not known best.
        even = _extrapolate(self.sizes, errors[:1], self.sizes, np.ones(len(self.sizes)))[0]
        share = np.clip(even, 0.5 / (n + 1), 1 - 0.5 / (n + 1))
        wanted = np.array([present, *numbers])
        accuracy = 1 - _extrapolate(self.sizes, errors, wanted, 1 / (share * (1 - share)))
        gain = accuracy - accuracy[:, :1]
        return [
            Expected(int(n), _interval(accuracy[:, at], level), _interval(gain[:, at], level))
            for at, n in enumerate(wanted.tolist())
        ][1:]


def _extrapolate(
    sizes: Int[np.ndarray, "S"],
    errors: Curves,
    wanted: Int[np.ndarray, "W"],
    weight: Float[np.ndarray, "S"],
) -> Float[np.ndarray, "B W"]:
    """The fitted error of each curve: weighted least squares of floor and scale, both 0 or more, by slope."""
    # Two sizes fit many slopes exactly: the first of SLOPES, the usual one, is taken.
    best, found = np.full(len(errors), np.inf), np.zeros((len(errors), len(wanted)))
    total = weight.sum()
    means = (weight * errors).sum(axis=1) / total
    for slope in SLOPES:
        base, ahead = sizes.astype(float) ** -slope, wanted.astype(float) ** -slope
        middle = (weight * base).sum() / total
        centred = base - middle
        scale = np.maximum((weight * centred * errors).sum(axis=1) / (weight * centred**2).sum(), 0.0)
        floor = means - scale * middle
        through_zero = (weight * base * errors).sum(axis=1) / (weight * base**2).sum()
        floor, scale = np.maximum(floor, 0.0), np.where(floor < 0, through_zero, scale)
        loss = (weight * np.square(floor[:, None] + scale[:, None] * base - errors)).sum(axis=1)
        better = loss < best - 1e-12
        best = np.where(better, loss, best)
        fitted = floor[:, None] + scale[:, None] * ahead
        found = np.where(better[:, None], fitted, found)
    return found


def _interval(found: Float[np.ndarray, "B"], level: float) -> Interval:
    """The first value, with the range of the redrawn ones."""
    low, high = np.quantile(found[1:], [(1 - level) / 2, (1 + level) / 2])
    estimate = float(found[0])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), level)
