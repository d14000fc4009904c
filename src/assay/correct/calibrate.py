"""Calibration: make probabilities mean what they say, with one sharpness and a bias for each class.

Models fitted to noisy labels are under-confident, so the sharpness is usually above 1.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from assay.correct.posterior import log_evidence
from assay.types import UNKNOWN, Labels, PerClass, Probs, Rows, Transition

BIAS_PENALTY = 1e-3
"""Holds the biases of classes that the data say nothing about near 0, per row."""

BIAS_PRIOR = 8.0
"""Holds biases near 0 where trusted rows are few: a normal prior with a deviation of 1/4."""

WIDE_PRIOR = 0.5
"""A standard normal one. Of the sharpness's logarithm: twenty rows that are all right do not make a
classifier infinitely sure. Of biases by noisy labels, which are many: who learned from few rows leans."""

MOST_NOISY = 50_000
"""Rows of which noisy labels are looked at: more would say no more of so few numbers, and take memory."""

FLOOR = 1e-3
"""Shared by all classes: the least that they have together. A classifier that counts votes says 0 where it
means rarely; its sharpness would be judged by those zeros alone."""

NO_FLOOR = float(np.finfo(np.float32).tiny)
"""For a network, whose small probabilities mean what they say: no limit but that of its numbers."""


@dataclass(frozen=True)
class Calibration:
    """``softmax(sharpness · log p + bias)``: temperature scaling (Guo et al. 2017) with a class bias.

    A probability below ``floor / K`` counts as ``floor / K``.
    """

    inverse_temperature: float
    """Inverse temperature; 1 changes nothing."""
    bias: PerClass
    """Added to each class's score; sums to 0."""
    floor: float = FLOOR
    """``NO_FLOOR`` for the head of a network, which can absorb the rest: see ``Layers.calibrated``."""

    def apply(self, probs: Probs) -> Probs:
        """The calibrated probabilities."""
        calibrated: Probs = softmax(self.inverse_temperature * _log(probs, self.floor) + self.bias, axis=1)
        return calibrated


def calibrate(probs: Probs, trusted: Labels, floor: float = FLOOR) -> Calibration:
    """Fit on the rows with a trusted label, to make those most likely; few rows change little, none nothing.

    Parameters
    ----------
    probs : P(class), from a classifier that did not learn from the rows with a trusted label
    trusted : class index, or UNKNOWN
    floor : see ``Calibration``
    """
    rows = trusted != UNKNOWN
    certain = np.eye(probs.shape[1], dtype=bool)[trusted[rows]]
    found = _fit(_log(probs[rows], floor), np.where(certain, 0.0, -np.inf), BIAS_PRIOR)
    return replace(found, floor=floor)


def by_halves(probs: Probs, trusted: Labels, floor: float = FLOOR, *, of: Probs | None = None) -> Probs:
    """Probabilities of rows that calibrate, each half of them by a calibration that was fitted to the other.

    A calibration with a bias for each class knows the rows that it was fitted to, however little its prior
    leaves of that. Where ``probs`` are calibrated on these very rows already, fitting anew to a half of them
    takes that back, for one calibration after another is one: of a thousand rows most of it, of a few only a
    part, for the prior holds the second as it held the first.

    Parameters
    ----------
    of : other probabilities of the same rows to apply it to, such as those of damaged images
    """
    asked = probs if of is None else of
    found = np.empty(asked.shape)
    for fitted_on, told in halves(np.arange(len(probs))):
        found[told] = calibrate(probs[fitted_on], trusted[fitted_on], floor).apply(asked[told])
    return found


def halves(judges: Rows) -> list[tuple[Rows, Rows]]:
    """Each half of the judges to be judged by the other: what is fitted on a label may not be its figure."""
    return [(judges[1::2], judges[::2]), (judges[::2], judges[1::2])]


def calibrate_on_noisy(probs: Probs, noisy: Labels, transition: Transition) -> Calibration:
    """Fit where only noisy labels are known, through P(given | true); few rows change little, none nothing.

    Maximises Σ log Σ_y p(y) · transition[y, given]: the sharpness that makes the noisy labels, not the
    true ones, as likely as can be.

    Parameters
    ----------
    probs : P(class), from a classifier that did not learn from these rows' given labels
    noisy : class index, or UNKNOWN; of more than ``MOST_NOISY`` every second one counts, or fewer
    transition : P(given | true) at [true, given]
    """
    rows = np.flatnonzero(noisy != UNKNOWN)
    step = max(math.ceil(len(rows) / MOST_NOISY), 1)
    rows = rows[::step]
    return _fit(_log(probs[rows], FLOOR), log_evidence(noisy[rows], transition), WIDE_PRIOR)


def _fit(
    scores: Float[np.ndarray, "N K"], evidence: Float[np.ndarray, "N K"], bias_prior: float
) -> Calibration:
    """Maximise Σ log Σ_y p_y · exp(evidence[:, y]) over sharpness and bias, by L-BFGS."""
    n, k = scores.shape
    if n == 0:
        return Calibration(1.0, np.zeros(k))
    bounds = [(np.log(0.05), np.log(20))] + [(-5.0, 5.0)] * k
    # The search starts from no change and never goes uphill: the result is at least as likely.
    best = minimize(
        _loss, np.zeros(k + 1), (scores, evidence, bias_prior), "L-BFGS-B", jac=True, bounds=bounds
    ).x
    return Calibration(float(np.exp(best[0])), best[1:] - best[1:].mean())


def _loss(
    parameters: Float[np.ndarray, "P"],
    scores: Float[np.ndarray, "N K"],
    evidence: Float[np.ndarray, "N K"],
    bias_prior: float,
) -> tuple[float, Float[np.ndarray, "P"]]:
    """Penalised mean negative log-likelihood and its gradient at (log sharpness, bias of each class)."""
    inverse_temperature, bias, n = np.exp(parameters[0]), parameters[1:], len(scores)
    log_p = log_softmax(inverse_temperature * scores + bias, axis=1)
    total = logsumexp(log_p + evidence, axis=1, keepdims=True)
    # d loss / d score = P(class) − P(class | label): zero when both agree on average.
    gradient = (np.exp(log_p) - np.exp(log_p + evidence - total)) / n
    slope = np.concatenate([[inverse_temperature * (gradient * scores).sum()], gradient.sum(axis=0)])
    penalty = np.full(len(parameters), bias_prior / n + BIAS_PENALTY)
    penalty[0] = WIDE_PRIOR / n
    loss = -total.mean() + (penalty * np.square(parameters)).sum()
    return float(loss), slope + 2 * penalty * parameters


def _log(probs: Probs, floor: float) -> Float[np.ndarray, "N K"]:
    logs: Float[np.ndarray, "N K"] = np.log(np.maximum(probs, floor / probs.shape[1]))
    return logs
