"""The posterior: predicted probabilities of the images, calibrated and combined with their noisy labels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from assay.correct.evidence import BLIND_STRENGTH, TINY, LabelEvidence, LogProbs
from assay.data.split import folds
from assay.types import UNKNOWN, Groups, Labels, PerClass, Prior, Probs, Rows

# Above 1 the noisy label counts for more than the transition allows; a little tolerance for chance.
MAX_STRENGTH = 1.5

# Shared by all classes, the least that they have together: a classifier that counts votes gives 0 for rare
# classes, and those zeros alone would set its temperature.
FLOOR, POOL_FLOOR = 1e-3, 1e-4

NO_FLOOR = float(np.finfo(np.float32).tiny)
"""For a network, whose small probabilities are meant: no limit but that of its numbers."""

# Normal priors: of biases by few trusted rows a deviation of 1/4; else of 1. Twenty rows that are all right
# do not make a classifier infinitely sure, and noisy labels are many.
BIAS_PRIOR, WIDE_PRIOR = 8.0, 0.5
BIAS_PENALTY = 1e-3  # a row: keeps the biases of classes without data near 0
MOST_NOISY = 50_000  # labels to calibrate on: more would hardly change so few numbers, and take memory

# Towards equal weights that sum to 1, λ = 1 and no bias, each normal with a deviation of 1/4. With a wider
# one, some hundred trusted images set weights that they do not determine; see benchmarks/LOG.md.
POOL_PRIOR = 8.0
MAX_WEIGHT = 5.0  # a classifier fitted to noisy labels may need a fourfold inverse temperature

Parameters = Float[np.ndarray, "P"]

# Without trusted labels: what was best on people's labels and on drawn ones, see benchmarks/LOG.md. A few
# trusted labels move λ from there, by a normal prior with a deviation of 1/4: they could not set it.
BLIND_POWER, STRENGTH_PRIOR = 1.5, 8.0


def combine(pred_probs: Probs, evidence: LogProbs, strength: float = 1.0) -> Probs:
    """The posterior P(true class | image, labels): the prediction times exp(strength · evidence).

    Parameters
    ----------
    pred_probs : P(true | image), out of fold
    evidence : log P(labels | true), see ``LabelEvidence``
    strength : λ >= 0, the power of the evidence. 1 is exact when the labels depend on the true class alone; 0
        ignores them

    Source : the E step of Dawid & Skene (1979), doi:10.2307/2346806, with the prediction as prior
    """
    joint = np.log(np.maximum(pred_probs, TINY)) + strength * evidence
    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
    likely: Probs = joint / joint.sum(axis=1, keepdims=True)
    return likely


def fit_strength(
    pred_probs: Probs, evidence: LogProbs, trusted: Labels, expected: float = BLIND_STRENGTH
) -> float:
    """λ that makes the trusted labels most likely, in [0, MAX_STRENGTH].

    Near 1: the noise depends on the class alone. Well below: it depends on the image, as people's errors
    do, and the noisy label is worth less than its evidence says.

    Parameters
    ----------
    pred_probs : P(true | image), fitted without these trusted labels
    evidence : see ``LabelEvidence``, fitted without the row's own trusted label; zeros are left out
    """
    rows = np.flatnonzero(evidence.any(axis=1) & (trusted != UNKNOWN))
    if len(rows) == 0:
        return expected

    def loss(strength: float) -> float:
        probs = combine(pred_probs[rows], evidence[rows], strength)
        unlikely = -np.log(np.maximum(probs[np.arange(len(rows)), trusted[rows]], TINY)).mean()
        return float(unlikely + STRENGTH_PRIOR * (strength - expected) ** 2 / len(rows))

    # Convex in λ, so the bounded search finds the one minimum.
    found = minimize_scalar(loss, bounds=(0.0, MAX_STRENGTH), method="bounded", options={"xatol": 1e-3})
    return float(found.x)


@dataclass(frozen=True)
class Calibration:
    """``softmax(inverse_temperature · log p + bias)``: temperature scaling (Guo et al. 2017), with biases."""

    inverse_temperature: float
    """1 changes nothing; usually more, as models fitted to noisy labels are under-confident."""
    bias: PerClass
    """Added to each class's score; sums to 0."""
    floor: float = FLOOR
    """A probability below ``floor / K`` counts as that; ``NO_FLOOR`` for the head of a network, which can
    absorb the rest: see ``Layers.calibrated``."""

    def apply(self, probs: Probs) -> Probs:
        """The calibrated probabilities."""
        calibrated: Probs = softmax(self.inverse_temperature * _log(probs, self.floor) + self.bias, axis=1)
        return calibrated

    def balanced(self, prior: Prior) -> "Calibration":
        """The same for images of which all classes are equally frequent, where it was fitted to ``prior``.

        Source : logit adjustment after training, Menon et al. (2021), arXiv:2007.07314
        """
        bias = self.bias - np.log(prior)
        return replace(self, bias=bias - bias.mean())

    def then(self, other: "Calibration") -> "Calibration":
        """Both as one: ``other`` after this."""
        inverse_temperature = self.inverse_temperature * other.inverse_temperature
        bias = other.inverse_temperature * self.bias + other.bias
        return Calibration(inverse_temperature, bias, self.floor)


def calibrate(probs: Probs, trusted: Labels, floor: float = FLOOR) -> Calibration:
    """Fit to make the trusted labels most likely; few rows change little, none nothing.

    Parameters
    ----------
    probs : P(class), from a classifier that was fitted without the rows with a trusted label
    """
    rows = trusted != UNKNOWN
    certain = np.eye(probs.shape[1], dtype=bool)[trusted[rows]]
    found = _fit_calibration(_log(probs[rows], floor), np.where(certain, 0.0, -np.inf), BIAS_PRIOR)
    return replace(found, floor=floor)


def by_halves(probs: Probs, trusted: Labels, floor: float = FLOOR, *, of: Probs | None = None) -> Probs:
    """Calibrated probabilities of the calibration rows, each half by a calibration fitted to the other half.

    A calibration with a bias for each class overfits its own rows. Where ``probs`` are calibrated on these
    rows already, this takes that back: of a thousand rows most of it, of a few a part.

    Parameters
    ----------
    of : other probabilities of the same rows to apply it to, such as those of damaged images
    """
    applied_to = probs if of is None else of
    found = np.empty(applied_to.shape)
    for fitted_on, others in halves(np.arange(len(probs))):
        found[others] = calibrate(probs[fitted_on], trusted[fitted_on], floor).apply(applied_to[others])
    return found


def halves(rows: Rows, groups: Groups | None = None) -> list[tuple[Rows, Rows]]:
    """Both ways to fit on one half of the rows and to apply to the other: (fitted on, applied to).

    Parameters
    ----------
    groups : of all rows; a group is in one half, unless it is the only one
    """
    one, other = rows[1::2], rows[::2]
    if groups is not None and len(np.unique(groups[rows])) > 1:
        half_of = folds(np.zeros(len(rows), dtype=np.int64), 2, 0, groups[rows])
        one, other = rows[half_of == 1], rows[half_of == 0]
    return [(one, other), (other, one)]


def calibrate_on_noisy(probs: Probs, evidence: LogProbs, floor: float = FLOOR) -> Calibration:
    """Fit where only noisy labels are known: maximise Σ log Σ_y p(y) · P(noisy | y).

    Parameters
    ----------
    probs : P(class), from a classifier that was fitted without these rows' noisy labels
    evidence : see ``log_evidence``; of more than ``MOST_NOISY`` labels every second one counts, or fewer
    """
    rows = np.flatnonzero(evidence.any(axis=1))
    rows = rows[:: max(math.ceil(len(rows) / MOST_NOISY), 1)]
    found = _fit_calibration(_log(probs[rows], floor), evidence[rows], WIDE_PRIOR)
    return replace(found, floor=floor)


def _fit_calibration(scores: LogProbs, evidence: LogProbs, bias_prior: float) -> Calibration:
    """Maximise Σ log Σ_y p_y · exp(evidence[:, y]) over inverse temperature and bias, by L-BFGS."""
    n, k = scores.shape
    if n == 0:
        return Calibration(1.0, np.zeros(k))
    penalty = np.full(k + 1, bias_prior / n + BIAS_PENALTY)
    penalty[0] = WIDE_PRIOR / n

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        """Penalised mean negative log-likelihood and its gradient at (log inverse temperature, biases)."""
        inverse_temperature, bias = np.exp(parameters[0]), parameters[1:]
        log_p = log_softmax(inverse_temperature * scores + bias, axis=1)
        total = logsumexp(log_p + evidence, axis=1, keepdims=True)
        # d loss / d score = P(class) − P(class | label): zero when both agree on average.
        gradient = (np.exp(log_p) - np.exp(log_p + evidence - total)) / n
        slope = np.concatenate([[inverse_temperature * (gradient * scores).sum()], gradient.sum(axis=0)])
        penalised = -total.mean() + (penalty * np.square(parameters)).sum()
        return float(penalised), slope + 2 * penalty * parameters

    bounds = [(np.log(0.05), np.log(20))] + [(-5.0, 5.0)] * k
    # The search starts from no change and never goes uphill: the result is at least as likely.
    best = minimize(loss, np.zeros(k + 1), method="L-BFGS-B", jac=True, bounds=bounds).x
    return Calibration(float(np.exp(best[0])), best[1:] - best[1:].mean())


@dataclass(frozen=True)
class Pool:
    """A log-linear pool: several predictions of the same images, and the noisy label, weighted as one.

    ``P(class) ∝ exp(bias[class]) · Π prediction_i[class] ** weight_i · P(labels | class) ** λ``
    (Genest & Zidek 1986, doi:10.1214/ss/1177013825): predictions that repeat each other share a weight.
    """

    weights: tuple[float, ...]
    """Of each prediction; at least 0."""
    bias: PerClass
    """Added to each class's score; sums to 0."""
    strength: float
    """λ, the power of the noisy label's evidence: small where the predictions were fitted to it already."""

    def pred_probs(self, all_pred_probs: Sequence[Probs]) -> Probs:
        """P(true | image) (N, K) without the noisy label; ``combine`` at ``strength`` adds it."""
        pairs = zip(self.weights, all_pred_probs, strict=True)
        logs = [weight * _log(pred_probs, POOL_FLOOR) for weight, pred_probs in pairs]
        pooled: Probs = softmax(np.sum(logs, axis=0) + self.bias, axis=1)
        return pooled


def fit_pool(all_pred_probs: Sequence[Probs], evidence: LogProbs, trusted: Labels) -> Pool:
    """The weights that make the trusted labels most likely; few rows change little, none nothing.

    Parameters
    ----------
    all_pred_probs : P(true | image) (N, K) each, from classifiers fitted without the trusted labels here, but
        with the noisy labels of these rows as of all others
    evidence : log P(labels | true) (N, K), fitted to other trusted labels than these
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    n, members, k = len(rows), len(all_pred_probs), all_pred_probs[0].shape[1]
    start = np.concatenate([np.full(members, 1 / members), [1.0], np.zeros(k)])
    if n == 0:
        return Pool(tuple(start[:members].tolist()), np.zeros(k), 1.0)
    logs = [_log(pred_probs[rows], POOL_FLOOR) for pred_probs in all_pred_probs]
    powers = np.array([*logs, evidence[rows]])  # (members + 1, n, K)
    true_cells = np.arange(n), trusted[rows]

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        """Penalised mean negative log-likelihood and its gradient at (weights, λ, biases)."""
        scores = np.tensordot(parameters[: members + 1], powers, 1) + parameters[members + 1 :]
        log_p = log_softmax(scores, axis=1)
        excess = np.exp(log_p)
        excess[true_cells] -= 1
        slope = np.concatenate([(powers * excess).sum(axis=(1, 2)), excess.sum(axis=0)]) / n
        away = parameters - start
        penalised = -log_p[true_cells].mean() + POOL_PRIOR * np.square(away).sum() / n
        return float(penalised), slope + 2 * POOL_PRIOR * away / n

    bounds = [(0.0, MAX_WEIGHT)] * members + [(0.0, MAX_STRENGTH)] + [(-5.0, 5.0)] * k
    best = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=bounds).x
    bias = best[members + 1 :]
    return Pool(tuple(best[:members].tolist()), bias - bias.mean(), float(best[members]))


def _log(probs: Probs, floor: float) -> LogProbs:
    logs: LogProbs = np.log(np.maximum(probs, floor / probs.shape[1]))
    return logs


@dataclass(frozen=True)
class Weighed:
    """Calibrated predictions and posterior of N images."""

    pred_probs: Probs
    """P(true | image) (N, K), calibrated."""
    posterior: Probs
    """P(true | image, noisy label) (N, K)."""
    calibration: Calibration
    """By all trusted images: of the predictions of all others."""
    strength: float
    """λ, likewise."""
    evidence: LogProbs
    """Log P(labels | true) (N, K), by all trusted images."""


def weigh(raw: Probs, trusted: Labels, fold_of: Labels, labels: LabelEvidence) -> Weighed:
    """Calibrated predictions and posterior of every image, cross-fitted: no label affects its own posterior.

    Calibration, evidence and λ are fitted on trusted images; for those themselves, which all figures on
    labels rest on, to the other folds. Without any trusted label they are guessed.

    Parameters
    ----------
    raw : P(true | image) from classifiers that did not see the image; not calibrated
    fold_of : fold of each image; a trusted image in none gets the fit to all trusted ones, itself included
    labels : of the same images
    """
    guess = first_calibration(raw, fold_of, labels)
    evidence, known, raw = labels.evidence(raw, trusted), np.flatnonzero(trusted != UNKNOWN), guess.apply(raw)
    if not len(known):
        sharper = raw**BLIND_POWER
        sharper /= sharper.sum(axis=1, keepdims=True)
        likely = combine(sharper, evidence, labels.strength)
        return Weighed(raw, likely, guess, labels.strength, evidence)
    # No floor any more: ``guess`` had one.
    calibration = calibrate(raw, trusted, NO_FLOOR)
    pred_probs, tested, parts = calibration.apply(raw), evidence[known], []
    for inside, others in other_folds(trusted[known], fold_of[known]):
        rows, visible = known[inside], trusted.copy()
        visible[known] = others
        pred_probs[rows] = calibrate(raw[known], others, NO_FLOOR).apply(raw[rows])
        tested[inside] = labels.evidence(raw, visible)[rows]
        parts.append((inside, others))
    strength = fit_strength(pred_probs[known], tested, trusted[known], labels.strength)
    likely = combine(pred_probs, evidence, strength)
    for inside, others in parts:
        # The fold took part in the calibration of these predictions, which moves λ by a hair.
        by_others = fit_strength(pred_probs[known], tested, others, labels.strength)
        likely[known[inside]] = combine(pred_probs[known[inside]], tested[inside], by_others)
    return Weighed(pred_probs, likely, guess.then(calibration), strength, evidence)


def first_calibration(
    raw: Probs, fold_of: Labels, labels: LabelEvidence, floor: float = FLOOR
) -> Calibration:
    """Temperature and biases by the many noisy labels, which a few trusted ones could not set."""
    inside = fold_of != UNKNOWN
    # From no trusted label at all, so that none affects its own posterior.
    evidence = labels.evidence(raw, np.full_like(fold_of, UNKNOWN))
    return calibrate_on_noisy(raw[inside], evidence[inside], floor)


def other_folds(trusted: Labels, fold_of: Labels) -> Iterator[tuple[Rows, Labels]]:
    """For each fold its trusted images, and the trusted labels of all other folds."""
    for fold in np.unique(fold_of[fold_of != UNKNOWN]):
        inside = fold_of == fold
        yield np.flatnonzero(inside & (trusted != UNKNOWN)), np.where(inside, UNKNOWN, trusted)
