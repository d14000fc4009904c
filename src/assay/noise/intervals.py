"""Intervals of shares: how far a counted share may be from the true one."""

import math
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from assay.types import Groups, Mask, PerImage

DRAWS = 20_000
"""From a posterior without a formula: its ends are then known to a hundredth of its width."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the range that the true value may lie in."""

    estimate: float
    low: float
    high: float
    level: float = 0.95
    """P(the range holds the true value), as far as the model is right."""

    def to_json(self) -> dict[str, float]:
        """The same as a plain dict."""
        return asdict(self)


def design_effect(values: PerImage, groups: Groups | None, level: float = 0.95) -> float:
    """How many images of these groups tell as much about a mean as one image of its own; 1 without groups.

    Images of one patient or film are right or wrong together, so an interval by images is too narrow. With
    groups, intervals count ``n / design_effect`` images in place of n. It is the variance of the mean by the
    jackknife over groups, divided by that by images, at least 1 (Kish 1965); times the square of Student's
    quantile over the normal one, because few groups estimate their variance badly (Korn & Graubard 1998). The
    degrees of freedom are those of equally large groups (Carter, Schnepel & Steigerwald 2017,
    doi:10.1162/REST_a_00639). A bootstrap over groups covers less: benchmarks/groups.py.

    Parameters
    ----------
    values : of each image, such as whether it is right
    level : of the interval
    """
    if groups is None:
        return 1.0
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    n, n_groups = len(values), len(size)
    # Of groups of unequal size the largest decide, and there are few of these.
    even = n**2 / float(np.square(size).sum())
    spread = values - values.mean()
    within = float(np.square(spread).sum())
    if within > 0 and n_groups > 1:
        moves = n / (n - size) * np.bincount(number, spread)  # of the sum, by leaving out each group
        ratio = (n_groups - 1) / n_groups * float(np.square(moves).sum()) / within
    else:  # all are alike: each group counts as one image
        ratio = n / even
    student = float(stdtrit(max(even - 1, 1), (1 + level) / 2))
    return max(ratio, 1.0) * (student / normal_quantile(level)) ** 2


def wilson(successes: int, n: int, level: float = 0.95, design_effect: float = 1.0) -> Interval:
    """The share ``successes / n`` with Wilson's score interval, for measured accuracies.

    Parameters
    ----------
    design_effect : of images in groups, see there

    Source : Wilson (1927), doi:10.1080/01621459.1927.10502953
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    share, z, n_alone = successes / n, normal_quantile(level), n / design_effect
    around = 2 * (n_alone + z**2)
    centre = (2 * n_alone * share + z**2) / around
    half = z / around * math.sqrt(4 * n_alone * share * (1 - share) + z**2)
    low = centre - half if successes else 0.0
    high = centre + half if successes < n else 1.0
    # Rounding must not put a bound on the wrong side of the share.
    return Interval(share, min(share, low), max(share, high), level)


def share_interval(hits: int, of: int, level: float = 0.95, design_effect: float = 1.0) -> Interval:
    """The share ``hits / of`` with its ``share_bounds``; 0 to 1 when nothing was counted."""
    low, high = share_bounds(np.array(hits), np.array(of), level, design_effect)
    return Interval(hits / of if of else 0.5, float(low), float(high), level)


def share_bounds(
    hits: np.ndarray, of: np.ndarray, level: float = 0.95, design_effect: float | np.ndarray = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each true share, given counts ``hits`` out of ``of`` that broadcast.

    The equal-tailed credible interval under the Jeffreys prior. With no hits, or nothing but hits, it is
    one-sided: the exact bound there is ``1 - (1 - level) ** (1 / of)``, about three in ``of`` at 95 %.

    Parameters
    ----------
    design_effect : of images in groups, see there

    Source : Brown, Cai & DasGupta (2001), doi:10.1214/ss/1009213286
    """
    hits, of = hits / design_effect, of / design_effect
    tail, miss = (1 - level) / 2, of - hits
    # Of a thousand classes nearly all cells are empty, and the inverse is slow.
    between = (hits > 0) & (miss > 0)
    low, high = (
        betaincinv(hits + 0.5, miss + 0.5, at, out=np.zeros_like(miss), where=between)
        for at in (tail, 1 - tail)
    )
    exact = (1 - level) ** (1 / np.where(of > 0, of, 1))
    # The order matters where of == 0: both conditions hold, and the range must be 0 to 1.
    low = np.where(hits == 0, 0.0, np.where(miss == 0, exact, low))
    high = np.where(miss == 0, 1.0, np.where(hits == 0, 1 - exact, high))
    return low, high


def predicted_share(
    hits: Mask, guesses: Mask, guessed: float, n: int, level: float = 0.95, design_effect: float = 1.0
) -> Interval:
    """The share of hits among n things, of which few were counted and all were guessed.

    The guessed share of all, corrected by how the guesses erred where they were counted: prediction-powered
    inference, with the weight of the guesses that gives the least variance (PPI++, Angelopoulos, Duchi &
    Zrnic 2023, arXiv 2311.01453). The interval is the credible one under Jeffreys' prior, as in
    ``share_bounds``: a normal one is too narrow where the guesses hardly ever err.

    Parameters
    ----------
    hits, guesses : (M,) of the counted things, picked at random
    guessed : share of guesses among all n
    """
    counted = len(hits) / design_effect
    cells = np.bincount(2 * hits + guesses, minlength=4) / design_effect  # neither, guess, hit, both
    _, guess, hit, both = (cells + 0.5) / (counted + 2)
    share = guess + both
    weight = (both - (hit + both) * share) / (share * (1 - share) * (1 + counted / n))
    weight = min(max(weight, 0.0), 1.0)
    each = np.array([0.0, -weight, 1.0, 1.0 - weight])  # a hit less the weighed guess
    generator = np.random.default_rng(0)
    errors = generator.dirichlet(cells + 0.5, DRAWS) @ each
    of_all = generator.beta(n * guessed + 0.5, n * (1 - guessed) + 0.5, DRAWS)
    low, high = np.quantile(weight * of_all + errors, [(1 - level) / 2, (1 + level) / 2])
    estimate = weight * guessed + float(cells @ each) / counted
    estimate = min(max(estimate, 0.0), 1.0)
    return Interval(
        estimate, min(max(float(low), 0.0), estimate), max(min(float(high), 1.0), estimate), level
    )


def normal_quantile(level: float) -> float:
    """Half the width, in standard errors, of a two-sided interval: 1.96 at 0.95."""
    _check_level(level)
    return float(ndtri((1 + level) / 2))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
