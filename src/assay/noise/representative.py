"""Do the trusted images look like the rest? Every figure measured on them rests on it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay.noise.chisquare import ChiSquare, same_share
from assay.noise.intervals import Interval
from assay.noise.two_sample import told_apart
from assay.text import percent
from assay.types import UNKNOWN, Labels, Mask, Matrix, same_length

FEWEST = 30
"""Images needed on each side before a comparison says anything."""

MOST = 2_000
"""Images compared on each side: enough to see an AUC of 0.54, and a second of work."""

ADVICE = (
    "Figures measured on the trusted images may not hold for the others: check more images, picked at random."
)


@dataclass(frozen=True)
class LabelGap:
    """The class whose share among the given labels differs most between the two sides."""

    name: str
    trusted_share: float
    """Share of the class among the given labels of the trusted images, in [0, 1]."""
    rest_share: float
    """The same among the other images."""


@dataclass(frozen=True)
class Representative:
    """Trusted images against the rest: their given labels and their features."""

    n_trusted: int
    n_rest: int
    labels: ChiSquare | None
    """Test of one law for the given labels of both sides; None if there were too few."""
    largest_gap: LabelGap | None
    features_auc: Interval | None
    """How well a classifier tells both sides apart (0.5: not at all); None if too few or no features."""
    features_p_value: float | None
    """P(an AUC this high) if both sides are alike."""
    looks_alike: bool
    """False only if a difference was found; see ``labels`` and ``features_auc`` for what was compared."""
    warnings: tuple[str, ...] = ()
    """What was found, what it means and what to do."""

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return {**asdict(self), "warnings": list(self.warnings)}


def check_representative(
    features: Matrix | None,
    noisy: Labels,
    trusted: Labels,
    *,
    rows: Mask | None = None,
    classes: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
) -> Representative:
    """Compare the images that have a trusted label with those that have none.

    Parameters
    ----------
    features : one row for each image, any float type, may be a memory map; None compares labels alone
    noisy, trusted : class index of each image, or UNKNOWN
    rows : True for the images to use; all if None. Rows of features that are not finite are left out.
    classes : names for the words of the result; numbers if empty
    level : a difference is called one if chance alone makes it with less than 1 - level; half of that
        goes to the labels, half to the features
    seed : picks the images to compare, and the half to learn from

    Raises
    ------
    ValueError : arrays of different length
    """
    rows = np.ones(len(noisy), dtype=bool) if rows is None else rows
    same_length(noisy=noisy, trusted=trusted, rows=rows)
    if features is not None:
        same_length(features=features, noisy=noisy)
    sides = np.flatnonzero(rows & (trusted != UNKNOWN)), np.flatnonzero(rows & (trusted == UNKNOWN))
    n_trusted, n_rest = map(len, sides)
    if min(n_trusted, n_rest) < FEWEST:
        return Representative(n_trusted, n_rest, None, None, None, None, True, (_too_few(n_trusted, n_rest),))
    alarm = (1 - level) / 2
    labels, gap = _compare_labels(noisy, sides, classes, seed)
    auc, p_value = _compare_features(features, sides, level, seed)
    warnings = (*_label_warning(labels, gap, alarm), *_feature_warning(auc, p_value, alarm))
    return Representative(n_trusted, n_rest, labels, gap, auc, p_value, not warnings, warnings)


Sides = tuple[np.ndarray, np.ndarray]
"""Indices of the trusted images, and of the others."""


def _compare_labels(
    noisy: Labels, sides: Sides, classes: Sequence[str], seed: int
) -> tuple[ChiSquare | None, LabelGap | None]:
    known = [noisy[side][noisy[side] != UNKNOWN] for side in sides]
    if min(map(len, known)) < FEWEST:
        return None, None
    size = max(int(labels.max()) for labels in known) + 1
    trusted, rest = (np.bincount(labels, minlength=size) for labels in known)
    shares = trusted / trusted.sum(), rest / rest.sum()
    widest = int(np.abs(shares[0] - shares[1]).argmax())
    name = classes[widest] if classes else f"class {widest}"
    gap = LabelGap(name, float(shares[0][widest]), float(shares[1][widest]))
    return same_share(trusted, trusted + rest, seed=seed), gap


def _compare_features(
    features: Matrix | None, sides: Sides, level: float, seed: int
) -> tuple[Interval | None, float | None]:
    if features is None:
        return None, None
    rng = np.random.default_rng(seed)
    picked = [_finite_rows(features, rng.permutation(side)[:MOST]) for side in sides]
    if min(map(len, picked)) < FEWEST:
        return None, None
    return told_apart(picked[0], picked[1], level=level, seed=seed)


def _finite_rows(features: Matrix, index: np.ndarray) -> np.ndarray:
    # In file order: a memory map on a slow disk is read once from front to back.
    picked = np.asarray(features[np.sort(index)], dtype=np.float32)
    return picked[np.isfinite(picked).all(axis=1)]


def _too_few(n_trusted: int, n_rest: int) -> str:
    if n_rest == 0:
        return f"All {n_trusted} images are trusted: there are no others to compare them with."
    return (
        f"Too few to tell whether the trusted images look like the rest: {n_trusted} trusted, "
        f"{n_rest} others, {FEWEST} of each are needed. "
        "Figures hold for the others only if the trusted were picked at random."
    )


def _label_warning(labels: ChiSquare | None, gap: LabelGap | None, alarm: float) -> tuple[str, ...]:
    if labels is None or gap is None or labels.p_value >= alarm:
        return ()
    shares = f"{percent(gap.trusted_share)} of the trusted images are labelled {gap.name!r}"
    against = f"{percent(gap.rest_share)} of the others (p = {labels.p_value:.2g})"
    return (f"The trusted images differ from the rest in their given labels: {shares}, {against}. {ADVICE}",)


def _feature_warning(auc: Interval | None, p_value: float | None, alarm: float) -> tuple[str, ...]:
    if auc is None or p_value is None or p_value >= alarm:
        return ()
    found = f"a simple classifier tells them apart in {percent(auc.estimate)} of pairs; 50 % would be chance"
    return (
        f"The trusted images differ from the rest in how they look: {found} (p = {p_value:.2g}). {ADVICE}",
    )
