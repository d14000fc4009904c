"""How wrong are the given labels?"""

from assay.noise.describe import describe
from assay.noise.intervals import Interval
from assay.noise.noise import Noise
from assay.noise.representative import Representative, check_representative
from assay.noise.transition import count_pairs, estimate_noise, transition_of

__all__ = [
    "Interval",
    "Noise",
    "Representative",
    "check_representative",
    "count_pairs",
    "describe",
    "estimate_noise",
    "transition_of",
]
