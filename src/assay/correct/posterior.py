"""The posterior: what the image says, times what the given label says."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from assay.errors import LabelError
from assay.types import UNKNOWN, Labels, Probs, Transition

MAX_STRENGTH = 1.5
"""Above 1 the given label would count for more than the transition allows; a little room for noise."""

TINY = 1e-30
"""Stands for a probability of 0, so that two certainties that contradict each other stay finite."""


def posterior(noisy: Labels, pred_probs: Probs, transition: Transition, strength: float = 1.0) -> Probs:
    """P(true class | image, given label), one row per image.

    Parameters
    ----------
    noisy : class index; UNKNOWN leaves the belief as it is
    pred_probs : P(true | image), out of fold; rows sum to 1
    transition : P(given | true) at [true, given]; rows sum to 1
    strength : λ >= 0, the power of the given label's evidence. 1 is exact when the given label depends
        on the true class alone; 0 ignores it.

    Raises
    ------
    LabelError : a label that is neither UNKNOWN nor below K
    Source : the E step of Dawid & Skene (1979), doi:10.2307/2346806, with the image's belief as prior
    """
    return combine(pred_probs, log_evidence(noisy, transition), strength)


def log_evidence(noisy: Labels, transition: Transition) -> Float[np.ndarray, "N K"]:
    """Logarithms of P(given label | true class) (N, K); zeros, which say nothing, where no label is given.

    Raises
    ------
    LabelError : a label that is neither UNKNOWN nor below K
    """
    n_classes = len(transition)
    strange = np.flatnonzero((noisy < UNKNOWN) | (noisy >= n_classes))
    if strange.size:
        raise LabelError(
            f"given[{strange[0]}]: expected a class from 0 to {n_classes - 1}, or {UNKNOWN} for unknown, "
            f"got {noisy[strange[0]]}"
        )
    says: Float[np.ndarray, "N K"] = np.log(np.maximum(transition.T, TINY))[noisy]
    says[noisy == UNKNOWN] = 0.0
    return says


def combine(pred_probs: Probs, evidence: Float[np.ndarray, "N K"], strength: float) -> Probs:
    """The belief times exp(strength · evidence), each row summing to 1; the evidence is a logarithm."""
    joint = np.log(np.maximum(pred_probs, TINY)) + strength * evidence
    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
    likely: Probs = joint / joint.sum(axis=1, keepdims=True)
    return likely


def fit_strength(pred_probs: Probs, evidence: Float[np.ndarray, "N K"], trusted: Labels) -> float:
    """λ that makes the trusted labels most likely, in [0, MAX_STRENGTH].

    Near 1: the noise depends on the class alone. Well below: it depends on the image, as people's
    errors do, and the given label is worth less than the transition says. Rows that lack a given or
    a trusted label are left out; without any, 1. A normal prior around 1, as strong as one image, keeps a
    few pairs that all agree from making λ as large as it may be.

    Parameters
    ----------
    pred_probs : P(true | image), that did not learn from the trusted labels here
    evidence : see ``log_evidence``, by a transition that did not count the row's own pair: where pairs
        of a class are few, it would speak for itself
    trusted : class index, or UNKNOWN
    """
    rows = np.flatnonzero(evidence.any(axis=1) & (trusted != UNKNOWN))
    if len(rows) == 0:
        return 1.0

    def loss(strength: float) -> float:
        probs = combine(pred_probs[rows], evidence[rows], strength)
        unlikely = -np.log(np.maximum(probs[np.arange(len(rows)), trusted[rows]], TINY)).mean()
        return float(unlikely + 0.5 * (strength - 1) ** 2 / len(rows))

    # Convex in λ, so the bounded search finds the one minimum.
    return float(
        minimize_scalar(loss, bounds=(0.0, MAX_STRENGTH), method="bounded", options={"xatol": 1e-3}).x
    )
