"""Do the trusted images look like the rest? Every figure measured on them rests on it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve

from assay.noise.intervals import Interval, normal_quantile
from assay.noise.transition import ChiSquare, same_share
from assay.text import cut, percent
from assay.types import UNKNOWN, Groups, Labels, Mask, Matrix, same_length

FEWEST = 30  # images needed on each side for a comparison
MOST = 2_000  # compared on each side: enough to see an AUC of 0.54, and a second of work

ADVICE = (
    "Figures measured on the trusted images may not hold for the others: check more images, picked at random."
)

Sides = tuple[np.ndarray, np.ndarray]
"""Indices of the trusted images, and of the others."""


@dataclass(frozen=True)
class LabelGap:
    """The class whose share among the noisy labels differs most between the two sides."""

    name: str
    trusted_share: float
    """Share of the class among the noisy labels of the trusted images, in [0, 1]."""
    rest_share: float
    """The same among the other images."""


@dataclass(frozen=True)
class Representative:
    """Trusted images against the rest: their noisy labels and their features."""

    n_trusted: int
    n_rest: int
    labels: ChiSquare | None
    """Test of one law for the noisy labels of both sides; None if there were too few."""
    largest_gap: LabelGap | None
    features_auc: Interval | None
    """How well a classifier separates both sides (0.5: not at all); None if too few or no features."""
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
    groups: Groups | None = None,
) -> Representative:
    """Compare the images that have a trusted label with those that have none.

    Parameters
    ----------
    features : one row for each image, any float type, may be a memory map; None compares labels alone
    noisy, trusted : class index of each image, or UNKNOWN
    rows : True for the images to use; all if None. Rows of features that are not finite are left out.
    classes : names for the words of the result; numbers if empty
    level : a difference is reported if chance alone makes it with less than 1 - level; half of that
        goes to the labels, half to the features
    seed : picks the images to compare, and the half to train on
    groups : of each image; then one image of each group is compared, as the others tell nothing of their own
    """
    rows = np.ones(len(noisy), dtype=bool) if rows is None else rows
    if groups is not None:
        rows = rows & _one_of_each(groups, rows, trusted != UNKNOWN, seed)
    same_length(noisy=noisy, trusted=trusted, rows=rows)
    if features is not None:
        same_length(features=features, noisy=noisy)
    sides = np.flatnonzero(rows & (trusted != UNKNOWN)), np.flatnonzero(rows & (trusted == UNKNOWN))
    n_trusted, n_rest = map(len, sides)
    if min(n_trusted, n_rest) < FEWEST:
        warning = (
            "Too few to tell whether the trusted images look like the rest: "
            f"{'one of each group, ' * (groups is not None)}{n_trusted} trusted, "
            f"{n_rest} others, {FEWEST} of each are needed. "
            "Figures hold for the others only if the trusted were picked at random."
            if n_rest
            else f"All {n_trusted} images are trusted: there are no others to compare them with."
        )
        return Representative(
            n_trusted, n_rest, None, None, None, None, True, (warning,) if n_trusted else ()
        )
    alarm, warnings = (1 - level) / 2, []
    labels, gap = _compare_labels(noisy, sides, classes, seed)
    if labels is not None and gap is not None and labels.p_value < alarm:
        warnings.append(
            "The trusted images differ from the rest in their noisy labels: "
            f"{percent(gap.trusted_share)} of the trusted images are labelled {cut(gap.name)!r}, "
            f"{percent(gap.rest_share)} of the others (p = {labels.p_value:.2g}). {ADVICE}"
        )
    auc, p_value = _compare_features(features, sides, level, seed)
    if auc is not None and p_value is not None and p_value < alarm:
        warnings.append(
            "The trusted images differ from the rest in how they look: a simple classifier tells them apart "
            f"in {percent(auc.estimate)} of pairs; 50 % would be chance (p = {p_value:.2g}). {ADVICE}"
        )
    return Representative(n_trusted, n_rest, labels, gap, auc, p_value, not warnings, tuple(warnings))


def _one_of_each(groups: Groups, rows: Mask, is_trusted: Mask, seed: int) -> Mask:
    """One image of ``rows`` at random of each group; of trusted ones and others in one group one each."""
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(rows))
    sides = np.stack([groups, is_trusted])[:, shuffled]
    found = np.zeros(len(rows), dtype=bool)
    found[shuffled[np.unique(sides, axis=1, return_index=True)[1]]] = True
    return found


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
    rng, picked = np.random.default_rng(seed), []
    for side in sides:
        # In file order: a memory map on a slow disk is read once from front to back.
        some = np.asarray(features[np.sort(rng.permutation(side)[:MOST])], dtype=np.float32)
        picked.append(some[np.isfinite(some).all(axis=1)])
    if min(map(len, picked)) < FEWEST:
        return None, None
    return two_sample_auc(picked[0], picked[1], level=level, seed=seed)


def two_sample_auc(
    first: Matrix, second: Float[np.ndarray, "M D"], *, level: float = 0.95, seed: int = 0
) -> tuple[Interval, float]:
    """How well a classifier, trained on half of the rows, separates the sets in the other half.

    The classifier is Fisher's linear discriminant with a ridge, on the standardised features and the
    distance from the centre.

    Returns
    -------
    AUC, 0.5 if the sets are alike; and the one-sided p-value of 0.5 (Mann & Whitney).

    Source : Lopez-Paz & Oquab (2017), arXiv:1610.06545; interval: Hanley & McNeil (1982),
        doi:10.1148/radiology.143.1.7063747
    """
    rng = np.random.default_rng(seed)
    from scipy.stats import mannwhitneyu  # takes longer to load than the rest, and few commands compare

    # Scales and covariance come from all rows without regard to their set: what is tested stays unseen.
    rows = np.concatenate([first, second])
    # By range: rounded means would leave a constant column a spread of its own.
    rows = rows[:, np.ptp(rows, axis=0) > 0].astype(np.float64)
    rows -= rows.mean(axis=0)
    rows /= rows.std(axis=0)
    distance = (rows**2).sum(axis=1)
    rows = np.column_stack([rows, (distance - distance.mean()) / (distance.std() or 1.0)])
    sides = [rng.permutation(side) for side in (rows[: len(first)], rows[len(first) :])]
    # The halves are not swapped for a second round: a linear classifier gives both rounds nearly the same
    # luck, and the p-value would claim more than it knows.
    (train_first, test_first), (train_second, test_second) = ((side[::2], side[1::2]) for side in sides)
    direction = _discriminant(rows, train_first.mean(axis=0) - train_second.mean(axis=0))
    one, other = test_first @ direction, test_second @ direction
    found = mannwhitneyu(one, other, alternative="greater", method="asymptotic", use_continuity=False)
    area = float(found.statistic) / (len(one) * len(other))
    p_value = 0.5 if np.isnan(found.pvalue) else float(found.pvalue)  # where all scores are equal
    # Half a row of the smaller set counts as on the other side: a few rows that are separated without a
    # mistake do not make the separation certain.
    n_one, n_other = len(one), len(other)
    least = 0.5 / (min(n_one, n_other) + 1)
    likely = min(max(area, least), 1 - least)
    both_one, both_other = likely / (2 - likely) - likely**2, 2 * likely**2 / (1 + likely) - likely**2
    variance = likely * (1 - likely) + (n_one - 1) * both_one + (n_other - 1) * both_other
    reach = normal_quantile(level) * float(np.sqrt(max(variance, 0.0) / (n_one * n_other)))
    return Interval(area, max(area - reach, 0.0), min(area + reach, 1.0), level), p_value


def _discriminant(rows: Matrix, gap: np.ndarray) -> np.ndarray:
    """The direction that separates means ``gap`` apart; the fewer the rows, the nearer to ``gap`` itself."""
    # All directions with a ridge, not the strong ones alone: 64 principal ones were tried, and missed a shift
    # of half a standard deviation in one feature of 1,280.
    n_rows, width = rows.shape
    if width > n_rows:  # by Woodbury: the system has one equation a row instead of one a column
        kernel = rows @ rows.T / n_rows
        kernel[np.diag_indices(n_rows)] += width / n_rows
        seen = solve(kernel, rows @ gap, assume_a="pos")
        return np.asarray((gap - rows.T @ seen / n_rows) * (n_rows / width))
    covariance = rows.T @ rows / n_rows
    covariance[np.diag_indices(width)] += width / n_rows
    return np.asarray(solve(covariance, gap, assume_a="pos"))
