"""How far a counted share may be from the true one."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import betaincinv, ndtri

Numbers = np.ndarray
"""An array of any shape; counts in, bounds out."""


@dataclass(frozen=True)
class Interval:
    """A number and the range that it may lie in."""

    estimate: float
    low: float
    high: float
    level: float = 0.95
    """P(the range holds the true value), as far as the model is right."""

    def to_json(self) -> dict[str, float]:
        """The same as a plain dict."""
        return asdict(self)


def share_interval(hits: int, of: int, level: float = 0.95) -> Interval:
    """The share ``hits / of`` with its interval; 0 to 1 when nothing was counted."""
    low, high = share_bounds(np.array(hits), np.array(of), level)
    return Interval(hits / of if of else 0.5, float(low), float(high), level)


def share_bounds(hits: Numbers, of: Numbers, level: float = 0.95) -> tuple[Numbers, Numbers]:
    """Lower and upper bound of each true share, given ``hits`` out of ``of``.

    The equal-tailed credible interval under the Jeffreys prior. With no hits, or nothing but hits,
    it is one-sided: all the doubt lies on one side, and the exact bound there is
    ``1 - (1 - level) ** (1 / of)``, about three in ``of`` at 95 %.

    Parameters
    ----------
    hits, of : arrays of counts that broadcast, 0 <= hits <= of
    level : in (0, 1)

    Source : Brown, Cai & DasGupta (2001), doi:10.1214/ss/1009213286
    """
    tail = (1 - level) / 2
    miss = of - hits
    low = betaincinv(hits + 0.5, miss + 0.5, tail)
    high = betaincinv(hits + 0.5, miss + 0.5, 1 - tail)
    exact = (1 - level) ** (1 / np.maximum(of, 1))
    # The order matters where of == 0: both conditions hold, and the range must be 0 to 1.
    low = np.where(hits == 0, 0.0, np.where(miss == 0, exact, low))
    high = np.where(miss == 0, 1.0, np.where(hits == 0, 1 - exact, high))
    return low, high


def normal_quantile(level: float) -> float:
    """Half the width, in standard errors, of a two-sided interval: 1.96 at 0.95.

    Raises
    ------
    ValueError : a level outside (0, 1)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    return float(ndtri((1 + level) / 2))
