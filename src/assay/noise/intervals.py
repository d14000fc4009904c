"""Intervals of shares: how far a counted share may be from the true one."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import binomtest


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


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The share ``successes / n`` with Wilson's score interval, for measured accuracies.

    Source : Wilson (1927), doi:10.1080/01621459.1927.10502953
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    _check_level(level)
    share, bounds = successes / n, binomtest(successes, n).proportion_ci(level, method="wilson")
    # Rounding must not put a bound on the wrong side of the share.
    return Interval(share, min(share, float(bounds.low)), max(share, float(bounds.high)), level)


def share_interval(hits: int, of: int, level: float = 0.95) -> Interval:
    """The share ``hits / of`` with its ``share_bounds``; 0 to 1 when nothing was counted."""
    low, high = share_bounds(np.array(hits), np.array(of), level)
    return Interval(hits / of if of else 0.5, float(low), float(high), level)


def share_bounds(hits: np.ndarray, of: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each true share, given counts ``hits`` out of ``of`` that broadcast.

    The equal-tailed credible interval under the Jeffreys prior. With no hits, or nothing but hits, it is
    one-sided: the exact bound there is ``1 - (1 - level) ** (1 / of)``, about three in ``of`` at 95 %.

    Source : Brown, Cai & DasGupta (2001), doi:10.1214/ss/1009213286
    """
    tail, miss = (1 - level) / 2, of - hits
    low = betaincinv(hits + 0.5, miss + 0.5, tail)
    high = betaincinv(hits + 0.5, miss + 0.5, 1 - tail)
    exact = (1 - level) ** (1 / np.maximum(of, 1))
    # The order matters where of == 0: both conditions hold, and the range must be 0 to 1.
    low = np.where(hits == 0, 0.0, np.where(miss == 0, exact, low))
    high = np.where(miss == 0, 1.0, np.where(hits == 0, 1 - exact, high))
    return low, high


def normal_quantile(level: float) -> float:
    """Half the width, in standard errors, of a two-sided interval: 1.96 at 0.95."""
    _check_level(level)
    return float(ndtri((1 + level) / 2))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
