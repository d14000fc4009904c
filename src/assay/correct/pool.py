"""A pool of opinions: several beliefs about the same images, and the given label, weighed as one.

Log-linear, so that a weight of 0 leaves an opinion out and opinions that repeat each other share a weight
(Genest & Zidek 1986, doi:10.1214/ss/1177013825)::

    P(class) ∝ exp(bias[class]) · Π belief_i[class] ** weight_i · transition[class, given] ** λ
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from assay.correct.posterior import MAX_STRENGTH, log_evidence
from assay.types import UNKNOWN, Labels, PerClass, Probs, Transition

LOWEST = 1e-4
"""Shared by all classes: the least probability that an opinion counts with."""

MAX_WEIGHT = 5.0
"""Of one opinion; a classifier fitted to noisy labels may be sharpened fourfold."""

PRIOR_WEIGHT = 8.0
"""Towards equal weights that sum to 1, λ = 1 and no bias: each is normal there, with a deviation of 1/4. Less
lets some hundred judges decide what they do not know; see benchmarks/LOG.md, seventeenth sitting."""


@dataclass(frozen=True)
class Pool:
    """How much each opinion counts."""

    weights: tuple[float, ...]
    """Of each belief; at least 0."""
    bias: PerClass
    """Added to each class's score; sums to 0."""
    strength: float
    """λ, the power of the given label's evidence: small where the beliefs have learned from it already."""

    def pred_probs(self, all_pred_probs: Sequence[Probs]) -> Probs:
        """P(true | image) (N, K), the given label aside; ``posterior`` at ``strength`` adds it."""
        logs = [
            weight * _log(pred_probs) for weight, pred_probs in zip(self.weights, all_pred_probs, strict=True)
        ]
        pooled: Probs = softmax(np.sum(logs, axis=0) + self.bias, axis=1)
        return pooled


def fit_pool(all_pred_probs: Sequence[Probs], noisy: Labels, trusted: Labels, transition: Transition) -> Pool:
    """The weights that make the trusted labels most likely; few rows change little, none nothing.

    Parameters
    ----------
    all_pred_probs : P(true | image) (N, K) each, from classifiers that did not see the trusted labels here,
        and have seen the given labels of these rows as they have of all others
    noisy, trusted : class index, or UNKNOWN
    transition : P(given | true) at [true, given], from other pairs than these
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    n_pred_probs, k = len(all_pred_probs), all_pred_probs[0].shape[1]
    start = np.concatenate([np.full(n_pred_probs, 1 / n_pred_probs), [1.0], np.zeros(k)])
    if not len(rows):
        return Pool(tuple(start[:n_pred_probs].tolist()), np.zeros(k), 1.0)
    evidence = log_evidence(noisy[rows], transition)
    opinions = np.array([*(_log(pred_probs[rows]) for pred_probs in all_pred_probs), evidence])
    bounds = [(0.0, MAX_WEIGHT)] * n_pred_probs + [(0.0, MAX_STRENGTH)] + [(-5.0, 5.0)] * k
    best = minimize(_loss, start, (opinions, trusted[rows], start), "L-BFGS-B", jac=True, bounds=bounds).x
    bias = best[n_pred_probs + 1 :]
    return Pool(tuple(best[:n_pred_probs].tolist()), bias - bias.mean(), float(best[n_pred_probs]))


def _loss(
    parameters: Float[np.ndarray, "P"],
    opinions: Float[np.ndarray, "O N K"],
    truth: Labels,
    start: Float[np.ndarray, "P"],
) -> tuple[float, Float[np.ndarray, "P"]]:
    """Penalised mean negative log-likelihood and its gradient at (weight of each opinion, bias)."""
    n, n_opinions = len(truth), len(opinions)
    log_p = log_softmax(np.tensordot(parameters[:n_opinions], opinions, 1) + parameters[n_opinions:], axis=1)
    excess = np.exp(log_p)
    excess[np.arange(n), truth] -= 1
    slope = np.concatenate([(opinions * excess).sum(axis=(1, 2)), excess.sum(axis=0)]) / n
    away = parameters - start
    loss = -log_p[np.arange(n), truth].mean() + PRIOR_WEIGHT * np.square(away).sum() / n
    return float(loss), slope + 2 * PRIOR_WEIGHT * away / n


def _log(pred_probs: Probs) -> Float[np.ndarray, "N K"]:
    logs: Float[np.ndarray, "N K"] = np.log(np.maximum(pred_probs, LOWEST / pred_probs.shape[1]))
    return logs
