"""What are the right labels?"""

from assay.fix.calibrate import Calibration, calibrate
from assay.fix.crossfit import CrossFit, cross_fit
from assay.fix.posterior import fit_strength, log_evidence, posterior
from assay.fix.result import FixedLabels
from assay.fix.suspects import rank_suspects
from assay.fix.weighing import weigh

__all__ = [
    "Calibration",
    "CrossFit",
    "FixedLabels",
    "calibrate",
    "cross_fit",
    "fit_strength",
    "log_evidence",
    "posterior",
    "rank_suspects",
    "weigh",
]
