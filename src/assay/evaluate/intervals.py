"""How far a measured accuracy may be from the true one."""

import math

from assay.noise.intervals import Interval, normal_quantile


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The share ``successes / n`` with Wilson's score interval.

    On average it keeps its level for small n too and for shares near 0 or 1, where the usual
    ``± 1.96`` standard errors fails; it never leaves [0, 1] and needs no prior.

    Parameters
    ----------
    successes : 0 to n
    n : trials, at least 1
    level : P(the interval holds the true share), in (0, 1)

    Raises
    ------
    ValueError : counts or a level that cannot be
    Source : Wilson (1927), doi:10.1080/01621459.1927.10502953
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    z = normal_quantile(level)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At 0 and n one bound is the share itself; rounding must not put it on the wrong side.
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), level)
