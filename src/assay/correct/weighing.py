"""Weighing: what images say and what their labels say, made one; no trusted label tells itself.

Sharpness, transition and λ are fitted on trusted images. For those themselves, of which every figure on
labels comes, all three are fitted to the other folds: where pairs of a class are few, a transition that
counts an image's own pair, and a λ that is fitted with it, would know the answer. (An image's label is in
the beliefs that λ was fitted to, of which it moves one number by a hair.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assay.correct.calibrate import Calibration, calibrate
from assay.correct.posterior import combine, fit_strength, log_evidence, posterior
from assay.noise import count_pairs, transition_of
from assay.types import UNKNOWN, Labels, Probs, Rows, Transition


@dataclass(frozen=True)
class Weighed:
    """What is known of each of N images."""

    pred_probs: Probs
    """P(true | image) (N, K), calibrated."""
    posterior: Probs
    """P(true | image, given label) (N, K)."""
    calibration: Calibration
    """By all trusted images: of the belief of all others."""
    strength: float
    """λ, likewise."""


def weigh(
    raw: Probs, noisy: Labels, trusted: Labels, fold_of: Labels, transition: Transition, seed: int = 0
) -> Weighed:
    """Belief and posterior of every image.

    Parameters
    ----------
    raw : P(true | image) from heads that did not see the image; not calibrated
    noisy, trusted : class index, or UNKNOWN
    fold_of : fold of each image; a trusted image in none has what all trusted ones say, itself included
    transition : P(given | true) at [true, given], for the images without a trusted label
    """
    calibration = calibrate(raw, trusted)
    pred_probs = calibration.apply(raw)
    known = np.flatnonzero(trusted != UNKNOWN)
    evidence = log_evidence(noisy[known], transition)
    parts = [*by_the_others(trusted[known], fold_of[known])]
    for told, others in parts:
        rows = known[told]
        pred_probs[rows] = calibrate(raw[known], others).apply(raw[rows])
        evidence[told] = log_evidence(noisy[rows], transition_from(noisy[known], others, transition, seed))
    strength = fit_strength(pred_probs[known], evidence, trusted[known])
    likely = posterior(noisy, pred_probs, transition, strength)
    for told, others in parts:
        by_others = fit_strength(pred_probs[known], evidence, others)
        likely[known[told]] = combine(pred_probs[known[told]], evidence[told], by_others)
    return Weighed(pred_probs, likely, calibration, strength)


def by_the_others(trusted: Labels, fold_of: Labels) -> Iterator[tuple[Rows, Labels]]:
    """The trusted images of each fold, with the trusted labels of all other folds."""
    for fold in np.unique(fold_of[fold_of != UNKNOWN]):
        inside = fold_of == fold
        yield np.flatnonzero(inside & (trusted != UNKNOWN)), np.where(inside, UNKNOWN, trusted)


def transition_from(noisy: Labels, trusted: Labels, otherwise: Transition, seed: int) -> Transition:
    """P(given | true) from these pairs alone; the other one if there are none."""
    counts = count_pairs(noisy, trusted, len(otherwise))
    return transition_of(counts, seed) if counts.any() else otherwise
