"""How wrong are the given labels?"""

from assay.estimate.describe import describe
from assay.estimate.intervals import Interval
from assay.estimate.noise import Noise
from assay.estimate.representative import Representative, check_representative
from assay.estimate.transition import count_pairs, estimate_noise, transition_of

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
