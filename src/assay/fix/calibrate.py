"""Calibration: make probabilities mean what they say, with one sharpness and a bias for each class.

Models fitted to noisy labels are under-confident, so the sharpness is usually above 1.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from assay._types import UNKNOWN, Labels, Prior, Probs, Transition

BIAS_PENALTY = 1e-3
"""Holds the biases of classes that the data say nothing about near 0, per row."""


@dataclass(frozen=True)
class Calibration:
    """``softmax(sharpness · log p + bias)``: temperature scaling (Guo et al. 2017) with a class bias."""

    sharpness: float
    """Inverse temperature; 1 changes nothing."""
    bias: Prior
    """Added to each class's score; sums to 0."""

    def apply(self, probs: Probs) -> Probs:
        """The calibrated probabilities."""
        return softmax(self.sharpness * _log(probs) + self.bias, axis=1)


def calibrate(probs: Probs, trusted: Labels) -> Calibration:
    """Fit on rows with a trusted label; ``probs`` must not have learned from them."""
    rows = trusted != UNKNOWN
    return _fit(_log(probs[rows]), np.eye(probs.shape[1])[trusted[rows]])


def calibrate_on_given(probs: Probs, given: Labels, transition: Transition) -> Calibration:
    """Fit where only noisy labels are known, through P(given | true): maximises Σ log Σ_y p_y · transition[y, given].

    ``probs`` must not have learned from these rows' given labels.
    """
    rows = given != UNKNOWN
    return _fit(_log(probs[rows]), transition.T[given[rows]])


def _fit(scores: Float[np.ndarray, "N K"], likelihood: Float[np.ndarray, "N K"]) -> Calibration:
    """Maximise Σ log Σ_y p_y · likelihood[:, y] over sharpness and bias, by L-BFGS."""
    n, k = scores.shape
    if n == 0:
        return Calibration(1.0, np.zeros(k))
    evidence = np.log(np.maximum(likelihood, 1e-30))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        sharpness, bias = np.exp(parameters[0]), parameters[1:]
        log_p = log_softmax(sharpness * scores + bias, axis=1)
        total = logsumexp(log_p + evidence, axis=1, keepdims=True)
        # d loss / d score = p − P(class | image, label): zero when both agree on average.
        gradient = (np.exp(log_p) - np.exp(log_p + evidence - total)) / n
        slope = np.concatenate([[sharpness * (gradient * scores).sum()], gradient.sum(axis=0)])
        slope[1:] += 2 * BIAS_PENALTY * bias
        return float(-total.mean() + BIAS_PENALTY * np.square(bias).sum()), slope

    bounds = [(np.log(0.05), np.log(20))] + [(-5.0, 5.0)] * k
    best = minimize(loss, np.zeros(k + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(np.exp(best[0])), best[1:] - best[1:].mean())


def _log(probs: Probs) -> np.ndarray:
    return np.log(np.maximum(probs, 1e-12))
