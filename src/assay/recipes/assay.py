"""assay at effort ``fast``: frozen features, a cross-fitted belief, the posterior, a head on it."""

from dataclasses import dataclass

import numpy as np

from assay._types import UNKNOWN, Labels, Mask, Probs, Progress, Transition, silent
from assay.embed.images import Features
from assay.estimate import Noise, Representative, check_representative, estimate_noise
from assay.fix.calibrate import Calibration, calibrate
from assay.fix.crossfit import CrossFit, cross_fit, fit_joint
from assay.fix.posterior import fit_strength, posterior
from assay.fix.result import FixedLabels
from assay.learn.heads import MLPHead
from assay.learn.layers import Layers


@dataclass(frozen=True)
class Labelled:
    """What may be learned from: features and labels, the seal already closed."""

    features: Features
    given: Labels
    """As it came in, holdout included: its posterior is computed, nothing is learned from it."""
    trusted: Labels
    """UNKNOWN for the holdout."""
    fold_of: Labels
    """Fold of each image; UNKNOWN for the holdout and for skipped images."""
    classes: tuple[str, ...]
    seed: int
    threshold: float


@dataclass(frozen=True)
class Learned:
    """The head, and everything that was found on the way to it."""

    head: Layers
    noise: Noise
    representative: Representative
    fixed: FixedLabels
    calibration: Calibration
    out_of_fold: Probs
    """P(class | image) (N, K), calibrated, from heads that never saw the image: what cross-validated figures rest on."""


def learn(data: Labelled, *, progress: Progress = silent) -> Learned:
    """Estimate the noise, fix the labels, fit the head; nothing here sees the holdout's trusted labels."""
    usable = np.ones(len(data.given), dtype=bool)
    usable[list(data.features.skipped)] = False
    fit = usable & (data.fold_of != UNKNOWN)
    given, n_classes = np.where(fit, data.given, UNKNOWN), len(data.classes)
    noise = estimate_noise(given, data.trusted, n_classes, classes=data.classes, seed=data.seed)
    plain = data.features.views[0]
    representative = check_representative(
        plain, given, data.trusted, rows=fit, classes=data.classes, seed=data.seed
    )
    options = CrossFit(seed=data.seed)
    raw = cross_fit(plain, given, data.trusted, noise.transition, data.fold_of, make_head, options, progress)
    calibration = calibrate(raw[fit], data.trusted[fit])
    belief = calibration.apply(raw)
    fixed = fix(data, belief, noise.transition, usable)
    head = fit_joint(plain, given, data.trusted, noise.transition, fit, make_head, options)
    layers = head.layers_.calibrated(calibration.sharpness, calibration.bias)
    return Learned(layers, noise, representative, fixed, calibration, belief)


def fix(data: Labelled, belief: Probs, transition: Transition, usable: Mask) -> FixedLabels:
    """The posterior of every image, the holdout's too, with λ fitted on the trusted ones."""
    strength = fit_strength(data.given, belief, data.trusted, transition)
    likely = posterior(data.given, belief, transition, strength)
    return FixedLabels(data.given, data.trusted, belief, likely, usable, strength, data.threshold)


def make_head(seed: int) -> MLPHead:
    """The head that won on the course data: see benchmarks/LOG.md."""
    return MLPHead(random_state=seed)
