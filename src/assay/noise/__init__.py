"""How wrong are the noisy labels?"""

from assay.noise.estimate import Noise, describe, estimate_noise
from assay.noise.intervals import Interval
from assay.noise.representative import Representative, check_representative
from assay.noise.transition import count_pairs

__all__ = [
    "Interval",
    "Noise",
    "Representative",
    "check_representative",
    "count_pairs",
    "describe",
    "estimate_noise",
]
