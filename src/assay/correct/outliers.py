"""Outliers: images that belong to no class, be they of another domain or of a class that nobody named.

Far ones, such as drawings among photographs, noise and scans of text, lie at a great distance from the images
that are known to belong, in units of their own spread (Mahalanobis). Near ones, such as a fox among cats and
dogs, do not: they have few neighbours among those that belong, lie between the classes, and get no class with
much probability. Each measure becomes ``-log`` of the share of images that belong and are as far out, so all
have one unit: the score is the mean of the near ones, plus what the far one has beyond one in a hundred.

Features are those of a frozen network: fine-tuning collapses the directions that show another class. The
distance to neighbours alone missed a hundred images of noise, which are each other's; see benchmarks/LOG.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular

from assay.correct.near_duplicates import unit_rows
from assay.types import UNKNOWN, Labels, Mask, Matrix, PerImage, Rows

SHARE = 0.001
"""Of the images that belong, how many may be flagged."""

FEWEST = 200  # images needed to find any
FEWEST_TRUSTED = 2_000  # needed to measure the cut: half of fewer cannot show one false alarm in a thousand
MOST = 4_096  # images that the others are compared with
CORE = 0.95  # share of a sample that is taken to belong: the rest, farthest out, may be outliers
NEIGHBOURS = 10  # 5 to 50 are as good where the images to compare with are known to belong
RIDGE = 1.0  # added to variances within classes; 0.3 to 3 are as good
FAR = np.log(100.0)  # a Mahalanobis distance counts beyond this: below it only blurs the near measures
NEAR = np.log(1000.0)  # the most that each near measure counts

# Shares of the images that belong at which their measures are read; beyond them, one in a hundred images may
# be an outlier where no trusted images show who belongs.
LEVELS = np.array([1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05])
DEPTH = -np.log(LEVELS)

WIDEST = 64  # directions in which a model knows the far distance: 200 kB of 768 features

Measure = Float[np.ndarray, "R"]
"""Of R rows, the greater the farther out."""


@dataclass(frozen=True)
class Outliers:
    """How far out each image is."""

    score: PerImage
    """Of which the cut is 1: above it is an outlier."""
    rows: Int[np.ndarray, "F"]
    """The images above the cut, the farthest first."""
    share: float
    """False alarms: the share of images that belong that is above the cut."""
    calibrated_on: int
    """Trusted images that the cut was measured on; 0 where it was extrapolated from all scores."""
    expected: float
    """Images above the cut if all images belonged: as many found are no evidence."""

    def to_json(self) -> dict[str, Any]:
        """All but the scores."""
        return {
            "found": len(self.rows),
            "expected_if_all_belong": self.expected,
            "false_alarm_share": self.share,
            "calibrated_on": self.calibrated_on,
        }

    def among(self, n: int, rows: Rows) -> "Outliers":
        """The same of ``n`` images, of which these are the ones at ``rows``; the others have a score of 0."""
        score = np.zeros(n)
        score[rows] = self.score
        return replace(self, score=score, rows=rows[self.rows])


@dataclass(frozen=True)
class OutlierScorer:
    """The score of new images from a model's features and probabilities alone, small enough to go with it.

    The neighbours are left out, and the far distance is that in the ``WIDEST`` directions and from them.
    """

    mean: Float[np.ndarray, "D"]
    scale: Float[np.ndarray, "D"]
    """Features less their mean are divided by it."""
    projection: Float[np.ndarray, "D r"]
    """Discriminant directions, whitened."""
    means: Float[np.ndarray, "C r"]
    """Class means there."""
    inverse: Float[np.ndarray, "r"]
    """Of the total variance there."""
    axes: Float[np.ndarray, "D w"]
    """The widest directions, of length 1."""
    variance: Float[np.ndarray, "w"]
    """In each of them."""
    rest: float
    """Variance of what is left, over all directions."""
    knots: Float[np.ndarray, "3 L"]
    """Of the far, between and doubt measures, the values at ``LEVELS``; see ``tail``."""
    cut: float
    """The score is divided by it."""

    def measures(self, features: Matrix, top_probs: PerImage) -> list[Measure]:
        """The far measure, that between classes, and the doubt."""
        values = (features - self.mean) / self.scale
        points = values @ self.projection
        to_each = np.square(points).sum(axis=1)[:, None] - 2.0 * points @ self.means.T
        between = (to_each + np.square(self.means).sum(axis=1)).min(axis=1) - np.square(points) @ self.inverse
        wide = np.square(values @ self.axes)
        left = np.maximum(np.square(values).sum(axis=1) - wide.sum(axis=1), 0.0)
        far = np.sqrt(wide @ (1.0 / self.variance) + left / self.rest)
        return [far, between, 1.0 - top_probs]

    def score(self, features: Matrix, top_probs: PerImage) -> PerImage:
        """Above 1 is an outlier."""
        found = zip(self.measures(features, top_probs), self.knots, strict=True)
        tails = [tail_at(one, knots) for one, knots in found]
        near = np.minimum(tails[1:], NEAR).mean(axis=0)
        score: PerImage = (near + np.maximum(tails[0] - FAR, 0.0)) / self.cut
        return score


def fit_scorer(
    features: Matrix, labels: Labels, top_probs: PerImage, *, share: float = SHARE, seed: int = 0
) -> OutlierScorer | None:
    """One half of the labelled images gives distances, the other half their unit and the cut.

    None with fewer than 400 of them, or of one class.

    Parameters
    ----------
    features : (N, D), as the model's head takes them
    labels : the class of images that belong, else UNKNOWN
    top_probs : of the most probable class, by models that were not trained on the image
    """
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(labels != UNKNOWN))
    fitted, measured = rows[: len(rows) // 2][:MOST], rows[len(rows) // 2 :]
    if len(fitted) < FEWEST or len(np.unique(labels[fitted])) < 2:
        return None
    known = np.asarray(features[fitted], np.float32)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale[scale < 1e-6] = 1.0
    values = (known - mean) / scale
    centre, projection, means, inverse = _discriminants(values, labels[fitted])
    variance, axes = np.linalg.eigh(values.T @ values / len(values))
    wide = slice(max(len(variance) - WIDEST, 0), None)
    ridge = min(0.1, 0.05 * len(variance) / len(values))
    rest = max(float(variance[: wide.start].mean()) + ridge if wide.start else ridge, 1e-3)
    scorer = OutlierScorer(
        *(mean + centre * scale, scale, projection, means, inverse),
        *(axes[:, wide], np.maximum(variance[wide], 0.0) + ridge, rest),
        *(np.zeros((3, len(LEVELS))), 1.0),
    )
    found = scorer.measures(np.asarray(features[measured], np.float32), top_probs[measured])
    knots = np.stack([np.quantile(one, 1.0 - LEVELS) for one in found])
    # Equal ones, of a model that is always sure, would be steps, which float32 cannot follow.
    scorer = replace(scorer, knots=knots + 1e-4 * np.arange(len(LEVELS)))
    scores = scorer.score(np.asarray(features[measured], np.float32), top_probs[measured])
    return replace(scorer, cut=max(find_cut(scores, share), 1e-6))


def find_outliers(
    features: Matrix,
    trusted: Mask,
    *,
    labels: Labels | None = None,
    top_probs: PerImage | None = None,
    share: float = SHARE,
    seed: int = 0,
) -> Outliers | None:
    """Score and rank; None with fewer than 200 images.

    With 2,000 trusted images or more, and as many as one false alarm takes, one half of them is what the
    others are compared with and the other half gives the cut: of new images that belong, at most ``share``
    lie beyond it, whatever their distribution (split conformal prediction, Vovk et al. 2005), or that of an
    exponential tail where few of the half would. Otherwise it is the tail of all scores.

    Parameters
    ----------
    features : (N, D) standardised, of a frozen network
    trusted : images that a person has checked: they belong, and are not flagged
    labels : the class of the images whose class is settled, else UNKNOWN; None finds far outliers alone
    top_probs : of the most probable class, without the noisy label, out of fold; None leaves it out
    share : false alarms, in (0, 1)
    """
    if len(features) < FEWEST:
        return None
    generator = np.random.default_rng(seed)
    known = generator.permutation(np.flatnonzero(trusted))
    reference, rest = known[: len(known) // 2][:MOST], known[len(known) // 2 :]
    above = int(share * (len(rest) + 1))
    if len(known) >= FEWEST_TRUSTED and above:
        scores = score_against(features, reference, rest, labels, top_probs)
        calibrated_on, cut = len(rest), find_cut(scores[rest], share)
    else:
        scores, calibrated_on = np.empty(len(features)), 0
        halves = np.array_split(generator.permutation(len(features)), 2)
        for own, other in (halves, halves[::-1]):
            # From a core that the image is no part of: from inside, everything looks close.
            core = other[_core(features[other[:MOST]])]
            # Images whose class seems settled may be outliers; a few hundred that are none are better.
            near = known[:MOST] if len(known) >= FEWEST else core
            measured = _measure(features, own, core, near, labels, top_probs)
            scores[own] = _combine(measured, np.arange(len(own)))
        cut = extrapolated_cut(scores, share)
    beyond = np.flatnonzero((scores > cut) & ~trusted)
    rows = beyond[np.argsort(-scores[beyond], kind="stable")]
    # Of images that are all alike nothing is far out, and there is no distance to divide by.
    apart = scores / cut if cut > 0 else np.where(scores > cut, np.finfo(np.float64).max, 0.0)
    return Outliers(apart, rows, share, calibrated_on, share * int(np.sum(~trusted)))


def score_against(
    features: Matrix, reference: Rows, belong: Rows, labels: Labels | None, top_probs: PerImage | None
) -> PerImage:
    """The score of every image, not divided by a cut.

    Parameters
    ----------
    reference : images that belong, which the others are compared with
    belong : other images that belong, like those to be judged: they give the unit
    labels, top_probs : see ``find_outliers``
    """
    rows = np.arange(len(features))
    return _combine(_measure(features, rows, reference, reference, labels, top_probs), belong)


def find_cut(scores: Float[np.ndarray, "B"], share: float) -> float:
    """The score that at most ``share`` of new images that belong exceed, by B that do.

    Where fewer than ten of them would lie beyond, which is a matter of luck, their tail is extrapolated.
    """
    above = int(share * (len(scores) + 1))
    return float(np.sort(scores)[-above]) if above >= 10 else extrapolated_cut(scores, share)


def extrapolated_cut(scores: Float[np.ndarray, "B"], share: float) -> float:
    """The same with an exponential tail, so that one in twenty scores may be those of outliers."""
    # Where an exponential tail through the quantiles 0.8 and 0.95 has ``share`` beyond it.
    low, high = np.quantile(scores, [0.8, 0.95])
    return float(low + (high - low) / np.log(4.0) * np.log(0.2 / share))


def _measure(
    features: Matrix, rows: Rows, core: Rows, near: Rows, labels: Labels | None, top_probs: PerImage | None
) -> list[Measure]:
    """The far measure of some rows, against ``core``, then the near ones, against ``near``."""
    some = features if len(rows) == len(features) else features[rows]  # all of them need no copy
    measures = [_distances(some, features[core])]
    if labels is None:
        return measures
    settled = near[labels[near] != UNKNOWN]
    if len(settled) > NEIGHBOURS:
        measures.append(_neighbour_distances(features, rows, settled))
    if len(np.unique(labels[settled])) > 1:
        measures.append(_between_classes(some, features[settled], labels[settled]))
    return measures if top_probs is None else [*measures, 1.0 - top_probs[rows]]


def _combine(measures: Sequence[Measure], belong: Rows) -> Measure:
    """The score from measures, in the unit of the images that belong."""
    far, *near = (tail(values, values[belong]) for values in measures)
    if not near:
        return far
    # No near measure flags an image by itself: a model that is always sure would make any doubt endless.
    score: Measure = np.mean(np.minimum(near, NEAR), axis=0) + np.maximum(far - FAR, 0.0)
    return score


def tail(values: Measure, belong: Float[np.ndarray, "B"]) -> Measure:
    """``-log`` of the share of the images that belong that is as far out; at least 0."""
    return tail_at(values, np.quantile(belong, 1.0 - LEVELS))


def tail_at(values: Measure, knots: Float[np.ndarray, "L"]) -> Measure:
    """The same, from the values of the images that belong at ``LEVELS``."""
    inside = np.interp(values, knots, DEPTH)
    found: Measure = inside + np.maximum(values - knots[-1], 0.0) * last_slope(knots)
    return found


def last_slope(knots: Float[np.ndarray, "L"]) -> float:
    """Beyond the last level the tail is taken to be exponential, as from a fifth to a twentieth."""
    return float((DEPTH[-1] - DEPTH[-3]) / max(knots[-1] - knots[-3], 1e-12))


def _neighbour_distances(features: Matrix, rows: Rows, settled: Rows) -> Measure:
    """1 - the cosine of each row with its k-th nearest settled image, itself aside (Sun et al. 2022)."""
    directions = unit_rows(features[settled]).T
    place = np.full(len(features), -1)
    place[settled] = np.arange(len(settled))
    found = []
    for part in np.array_split(rows, 1 + len(rows) // MOST):  # for the memory
        cosines = unit_rows(features[part]) @ directions
        own = np.flatnonzero(place[part] >= 0)
        cosines[own, place[part][own]] = -1.0
        found.append(1.0 - np.partition(cosines, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS])
    return np.concatenate(found).astype(np.float64)


def _between_classes(
    features: Float[np.ndarray, "R D"], settled: Float[np.ndarray, "S D"], labels: Int[np.ndarray, "S"]
) -> Measure:
    """The relative Mahalanobis distance: to the nearest class, less that to all classes as one.

    Source: Ren et al. 2021, arXiv 2106.09022.
    """
    centre, projection, means, inverse = _discriminants(settled, labels)
    parts = np.array_split(features, 1 + len(features) // MOST)  # for the memory
    points = np.concatenate([(part - centre) @ projection for part in parts])
    to_each = np.square(points).sum(axis=1)[:, None] - 2.0 * points @ means.T + np.square(means).sum(axis=1)
    nearest: Measure = (to_each.min(axis=1) - np.square(points) @ inverse).astype(np.float64)
    return nearest


def _discriminants(
    settled: Float[np.ndarray, "S D"], labels: Int[np.ndarray, "S"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre (D,), projection (D, r), class means there (K, r), and the inverse total variances there (r,).

    The total covariance is that within classes plus that of the class means, so the difference of both
    distances depends on their discriminant directions alone: the rest of them is equal.
    """
    classes, members = np.unique(labels, return_inverse=True)
    weight = np.bincount(members) / len(members)
    centre = settled.mean(axis=0)
    means = np.stack([settled[members == number].mean(axis=0) for number in range(len(classes))])
    inside = settled - means[members]
    whiten = _whitening(inside, RIDGE)
    apart = (means - centre) @ whiten  # (K, D)
    _, spread, directions = np.linalg.svd(np.sqrt(weight)[:, None] * apart, full_matrices=False)
    return centre, whiten @ directions.T, apart @ directions.T, 1.0 / (1.0 + np.square(spread))


def _core(features: Matrix) -> Rows:
    """What is left when the farthest are set aside twice (the C-steps of Rousseeuw & Van Driessen 1999)."""
    scores = np.linalg.norm(features, axis=1)
    for _ in range(2):
        scores = _distances(features, features[scores <= np.quantile(scores, CORE)])
    return np.flatnonzero(scores <= np.quantile(scores, CORE))


def _distances(features: Float[np.ndarray, "R D"], reference: Float[np.ndarray, "B D"]) -> Measure:
    """Mahalanobis distance of each row from the reference."""
    n, d = reference.shape
    mean = reference.mean(axis=0)
    centred = reference - mean
    # The fewer images, the less is known of the narrow directions, and the more a ridge has to hold them.
    whiten = _whitening(centred, min(0.1, 0.05 * d / n))
    parts = np.array_split(features, 1 + len(features) // MOST)  # for the memory
    scores = [np.linalg.norm((part - mean) @ whiten, axis=1) for part in parts]
    return np.concatenate(scores).astype(np.float64)


def _whitening(centred: Float[np.ndarray, "B D"], ridge: float) -> Float[np.ndarray, "D D"]:
    """W with W Wᵀ the inverse of the covariance, to whose diagonal at least ``ridge`` is added."""
    covariance = (centred.T @ centred / len(centred)).astype(np.float64)
    # float32 rounds narrow directions below zero, by up to 5e-8 of the sum of all variances.
    ridge = max(ridge, 1e-7 * float(np.trace(covariance)))
    # From Cholesky's factor: eigenvectors take ten times as long.
    root = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
    whiten: Matrix = solve_triangular(root, np.eye(len(root)), lower=True).T.astype(centred.dtype)
    return whiten
