"""Suspects: the labels most likely to be wrong, first."""

import numpy as np
from jaxtyping import Int

from assay.types import UNKNOWN, Labels, Probs


def rank_label_issues(noisy: Labels, probs: Probs) -> Int[np.ndarray, "R"]:
    """Rows with a given label, by P(the given label is wrong), most suspect first; ties in input order.

    Parameters
    ----------
    noisy : class index; rows that are UNKNOWN are left out
    probs : P(true class) of each row
    """
    rows = np.flatnonzero(noisy != UNKNOWN)
    return rows[np.argsort(probs[rows, noisy[rows]], kind="stable")]
