"""Metrics of a classifier with intervals, what they were measured on, and two classifiers compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from scipy.special import bdtr, ndtr

from assay.errors import DataError, LabelError
from assay.noise.intervals import Interval, design_effect, normal_quantile, wilson
from assay.text import cut, interval, listed
from assay.types import UNKNOWN, Counts, Groups, Labels, Mask, PerImage, Probs

Source = Literal["holdout", "cross-validation", "validation", "test set"]
"""Images that the figures are from: held out before fitting; each predicted by models that had not seen it;
kept out of the fit of this model, but used during it; another data set; or held out of another model, which
was fitted to all the other images."""

FLOOR = 1e-12  # a smaller P(true class) counts as this, so that one sure mistake leaves the mean finite
BINS = 15  # of confidence, equally wide
STEPS = 20  # points of the risk-coverage curve: every twentieth of the images
FEWEST = 10  # images of a class: of fewer, the 95 % interval of its recall may be more than 50 points wide


@dataclass(frozen=True)
class ClassScores:
    """How well one class is found, or the average over classes."""

    name: str
    precision: float
    """P(the image is of the class | predicted so); 0 where nothing was predicted so."""
    recall: float
    """P(predicted so | the image is of the class); 0 where no image is."""
    f1: float
    """Harmonic mean of the two; 0 where both are 0."""
    support: int
    """Images of the class."""


# An array has no one truth value, so two reports are compared by their ``to_json``.
@dataclass(frozen=True, eq=False)
class Report:
    """What ``classification_report`` found."""

    classes: tuple[ClassScores, ...]
    """K, in the order of the class names."""
    accuracy: float
    """Share of images whose class was predicted."""
    macro: ClassScores
    """Mean over the classes that occur: each counts the same."""
    weighted: ClassScores
    """Mean over classes, weighted by support: each image counts the same."""
    confusion: Counts
    """Images at [true, predicted]."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts and lists."""
        return _plain(self)


@dataclass(frozen=True)
class Bin:
    """Images of about one confidence, and how many of them were right."""

    low: float
    """Confidences above this and up to ``high`` are in the bin."""
    high: float
    n: int
    """At least 1."""
    confidence: float
    """Mean of P(predicted class)."""
    right: Interval
    """Share that was right, with Wilson's interval."""


@dataclass(frozen=True)
class Covered:
    """The most confident images, and the share of mistakes among them."""

    coverage: float
    """Share of all images, in (0, 1]."""
    n: int
    confidence: float
    """The least of them."""
    risk: float
    """Share of mistakes; images of one confidence share theirs evenly."""


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images: who was right where."""

    both_right: int
    only_first: int
    """Images that the first classifier alone got right."""
    only_second: int
    neither: int
    p_value: float
    """Two-sided: how often two equally good classifiers would differ as much by chance."""
    difference: Interval
    """Accuracy of the second minus accuracy of the first, in [-1, 1]."""

    @property
    def n(self) -> int:
        """Images that both classifiers predicted."""
        return self.both_right + self.only_first + self.only_second + self.neither

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How good a classifier is, how sure that is, and what it was measured on."""

    source: Source
    n: int
    """Images that the figures are from: those whose true class is known."""
    accuracy: Interval
    """Share of the n images predicted right, with Wilson's interval, by groups if they were declared."""
    report: Report
    calibration_error: float
    """Expected calibration error over 15 bins, in [0, 1]."""
    negative_log_likelihood: float
    """Mean of -log P(true class), in nats."""
    brier: float
    """Mean squared distance of the probabilities from the truth, in [0, 2]."""
    paired: Paired | None
    """Against the baseline, which is the first of the pair; None where there is none."""
    unlabelled: int
    """Images left out because their true class is not known."""
    skipped: int
    """Images left out because they could not be used; each is in ``image_issues.csv``."""
    reliability: tuple[Bin, ...]
    """How often predictions of each confidence were right."""
    risk_coverage: tuple[Covered, ...]
    """Share of mistakes among the most confident images."""
    groups: int | None = None
    """Groups that the n images are of: intervals are by groups. None if none were declared."""
    balanced_effect: float = 1.0
    """The design effect of the balanced accuracy."""

    @property
    def balanced_accuracy(self) -> Interval:
        """Mean recall over the classes that occur: see the function of this name."""
        return balanced_accuracy(self.report.confusion, effect=self.balanced_effect)

    @property
    def too_small(self) -> str:
        """A sentence that names the classes with fewer than ``FEWEST`` images; empty if there are none."""
        small = [repr(cut(scores.name)) for scores in self.report.classes if scores.support < FEWEST]
        if not small:
            return ""
        are = "is too small to measure: it has" if len(small) == 1 else "are too small to measure: each has"
        return f"{listed(small)} {are} fewer than {FEWEST} of the {self.n:,} images ({self.source})"

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts, lists and numbers; of groups only where they were declared."""
        plain = _plain(self) | {"balanced_accuracy": self.balanced_accuracy.to_json()}
        if self.groups is None:
            for name in ("groups", "balanced_effect"):
                plain.pop(name, None)
        return plain

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Evaluation":
        """What ``to_json`` gave, read back."""
        return msgspec.convert(found, Evaluation, dec_hook=lambda _, rows: np.array(rows, dtype=np.int64))

    def __repr__(self) -> str:
        right = interval(vars(self.accuracy), self.n)
        return f"Evaluation({right} right, n = {self.n:,}, {self.source})"


def _plain(result: Report | Evaluation) -> dict[str, Any]:
    # By way of JSON: ``to_builtins`` would keep tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(result, enc_hook=np.ndarray.tolist))
    return plain


def evaluate_predictions(
    truth: Labels,
    probs: Probs,
    class_names: Sequence[str],
    *,
    source: Source,
    baseline_predicted: Labels | None = None,
    skipped: int = 0,
    groups: Groups | None = None,
) -> Evaluation:
    """Measure a classifier on images whose true class is known; it predicts the most probable class.

    Parameters
    ----------
    truth : rows that are UNKNOWN are left out and counted
    class_names : in the order of the indices
    baseline_predicted : what the classifier to beat predicted for the same images
    skipped : images that could not be used and have no row here
    groups : of each image, for intervals by group; None if none were declared
    """
    if probs.shape != (len(truth), len(class_names)):
        raise ValueError(
            f"expected probs of shape {(len(truth), len(class_names))}, a row for each image and a column "
            f"for each class, got {probs.shape}"
        )
    if baseline_predicted is not None and len(baseline_predicted) != len(truth):
        raise ValueError(
            f"expected baseline_predicted for {len(truth)} images, got {len(baseline_predicted)} labels"
        )
    known = truth != UNKNOWN
    n = int(known.sum())
    if n == 0:
        raise DataError(
            f"expected images whose true class is known, got none among {len(truth)} "
            f"({skipped} more were skipped): nothing was measured; give trusted labels for some of them"
        )
    with np.errstate(invalid="ignore"):
        good = (probs >= 0).all(axis=1) & (np.abs(probs.sum(axis=1) - 1) < 1e-3)
    strange = np.flatnonzero(known & ~good)
    if strange.size:
        row = strange[0]
        raise DataError(
            f"probs row {row}: expected probabilities that sum to 1, got {np.round(probs[row], 4).tolist()}; "
            "the classifier that gave them is broken"
        )
    truth, probs = truth[known], probs[known]
    groups = None if groups is None else groups[known]
    predicted = probs.argmax(axis=1)
    report = classification_report(truth, predicted, class_names)
    calibration_error, bins = reliability(probs, truth, groups=groups)
    return Evaluation(
        source=source,
        n=n,
        accuracy=share_right(predicted == truth, groups),
        report=report,
        calibration_error=calibration_error,
        negative_log_likelihood=negative_log_likelihood(probs, truth),
        brier=brier(probs, truth),
        paired=None
        if baseline_predicted is None
        else mcnemar(truth, baseline_predicted[known], predicted, groups=groups),
        unlabelled=len(known) - n,
        skipped=skipped,
        reliability=bins,
        risk_coverage=risk_coverage(probs, truth),
        groups=None if groups is None else len(np.unique(groups)),
        balanced_effect=_balanced_effect(truth, predicted, groups),
    )


def _balanced_effect(truth: Labels, predicted: Labels, groups: Groups | None) -> float:
    """The design effect of the mean recall: of what each image adds to it beyond its class's recall.

    At least that of the accuracy: where a class has few groups, these are too much like their class.
    """
    right, of_class = (predicted == truth).astype(float), np.bincount(truth)
    recall = np.bincount(truth, right) / np.maximum(of_class, 1)
    added = (right - recall[truth]) / of_class[truth]
    return max(design_effect(added, groups), design_effect(right, groups))


def share_right(right: Mask, groups: Groups | None = None) -> Interval:
    """The share that is right of at least one image, with Wilson's interval, by groups if there are any."""
    effect = design_effect(right.astype(float), groups)
    return wilson(int(right.sum()), len(right), design_effect=effect)


def classification_report(truth: Labels, predicted: Labels, class_names: Sequence[str]) -> Report:
    """Precision, recall, F1 and support of each class, their averages as scikit-learn's, and the confusion.

    Where a share has nothing to divide by it is 0. The macro average leaves out classes that no image is of
    and none was predicted as.

    Parameters
    ----------
    truth, predicted : at least one image; none is UNKNOWN
    """
    # scikit-learn itself takes a second to load, and a tenth of one for each report.
    confusion = confusion_matrix(truth, predicted, len(class_names))
    hits, of, called = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    divisors = (called, of, (of + called) / 2)
    shares = np.stack([hits / np.where(divisor > 0, divisor, 1) for divisor in divisors])  # (3, K)

    def average(kind: str, weights: np.ndarray) -> ClassScores:
        precision, recall, f1 = (shares @ weights / weights.sum()).tolist()
        return ClassScores(f"{kind} avg", precision, recall, f1, len(truth))

    columns = (column.tolist() for column in (*shares, of))
    return Report(
        classes=tuple(ClassScores(*scores) for scores in zip(class_names, *columns, strict=True)),
        accuracy=float(np.trace(confusion) / len(truth)),
        macro=average("macro", (of + called > 0).astype(float)),
        weighted=average("weighted", of),
        confusion=confusion,
    )


def balanced_accuracy(confusion: Counts, level: float = 0.95, effect: float = 1.0) -> Interval:
    """Mean recall over the classes that occur: accuracy if all were equally frequent.

    Parameters
    ----------
    confusion : images at [true, predicted], at least one
    effect : design effect of images in groups

    Source : Brodersen et al. (2010), doi:10.1109/ICPR.2010.764; interval of a sum of shares, Price & Bonett
        (2004), doi:10.1016/S0167-9473(03)00007-0: in simulations it holds the truth in 90 to 99 %
    """
    of = confusion.sum(axis=1)
    hits, of = np.diag(confusion)[of > 0], of[of > 0]
    k, mean = len(of), float((hits / of).mean())
    # Four images more, half of them right, shared by all classes: a class of few cannot look exact.
    more = of / effect + 4 / k
    recall = (hits / effect + 2 / k) / more
    half = normal_quantile(level) * math.sqrt((recall * (1 - recall) / more).sum()) / k
    middle = float(recall.mean())
    return Interval(mean, max(min(middle - half, mean), 0.0), min(max(middle + half, mean), 1.0), level)


def balanced_figures(found: Mapping[str, Any]) -> Interval:
    """The balanced accuracy in ``Evaluation.to_json``; of earlier versions too, which wrote the confusion."""
    effect = found.get("balanced_effect", 1.0)
    return balanced_accuracy(np.array(found["report"]["confusion"]), effect=effect)


def confusion_matrix(truth: Labels, predicted: Labels, n_classes: int) -> Counts:
    """Images at [true, predicted], shape (K, K)."""
    if len(truth) != len(predicted):
        raise ValueError(f"expected a prediction for each of {len(truth)} true labels, got {len(predicted)}")
    for name, labels in (("truth", truth), ("predicted", predicted)):
        strange = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if strange.size:
            raise LabelError(
                f"{name} row {strange[0]}: expected a class from 0 to {n_classes - 1}, "
                f"got {labels[strange[0]]}; leave out images whose class is not known"
            )
    cells = truth.astype(np.int64) * n_classes + predicted
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def format_report(report: Report) -> str:
    """The report as text for a terminal, in scikit-learn's layout, two decimals, ending in a newline."""
    averages = (report.macro, report.weighted)
    width = max(len(scores.name) for scores in (*report.classes, *averages))

    def row(name: str, *cells: str) -> str:
        return f"{name:>{width}} " + "".join(f" {cell:>9}" for cell in cells)

    def scores_row(scores: ClassScores) -> str:
        shares = (f"{share:.2f}" for share in (scores.precision, scores.recall, scores.f1))
        return row(scores.name, *shares, str(scores.support))

    header = row("", "precision", "recall", "f1-score", "support")
    accuracy = row("accuracy", "", "", f"{report.accuracy:.2f}", str(report.macro.support))
    lines = [header, "", *map(scores_row, report.classes), "", accuracy, *map(scores_row, averages)]
    return "\n".join(lines) + "\n"


def reliability(
    probs: Probs, truth: Labels, bins: int = BINS, groups: Groups | None = None
) -> tuple[float, tuple[Bin, ...]]:
    """Expected calibration error, in [0, 1], and the bins that hold an image, the least confident first.

    The error is the mean distance between confidence and accuracy over equally wide bins.

    Source : Guo et al. (2017), arXiv:1706.04599, after Naeini et al. (2015)
    """
    confidence, right = probs.max(axis=1).astype(float), probs.argmax(axis=1) == truth
    # A bin is open below: a confidence of exactly 1/3 lies in the last of three thirds up to 1/3.
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(at, weights=confidence - right, minlength=bins)
    n = np.bincount(at, minlength=bins)
    means = np.bincount(at, weights=confidence, minlength=bins) / np.maximum(n, 1)

    def share(rows: Mask) -> Interval:
        return share_right(right[rows], None if groups is None else groups[rows])

    found = (
        Bin(i / bins, (i + 1) / bins, int(n[i]), float(means[i]), share(at == i))
        for i in np.flatnonzero(n).tolist()
    )
    return float(np.abs(gaps).sum() / len(truth)), tuple(found)


# Not scikit-learn's log_loss and brier_score_loss: one has another floor, the other builds the truth (N, K).
def negative_log_likelihood(probs: Probs, truth: Labels) -> float:
    """Mean of -log P(true class), natural log, in nats; 0 is best, log K is a uniform guess."""
    return float(-np.log(np.maximum(_of_truth(probs, truth), FLOOR)).mean())


def brier(probs: Probs, truth: Labels) -> float:
    """Mean squared distance between the probabilities and the truth, summed over classes, in [0, 2].

    Source : Brier (1950), doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """
    # |p - e|² = |p|² - 2 p[true] + 1
    squares = np.square(probs.astype(float)).sum(axis=1)
    return float((squares - 2 * _of_truth(probs, truth) + 1).mean())


def _of_truth(probs: Probs, truth: Labels) -> PerImage:
    picked: PerImage = probs[np.arange(len(truth)), truth].astype(float)
    return picked


def risk_coverage(probs: Probs, truth: Labels, steps: int = STEPS) -> tuple[Covered, ...]:
    """At most ``steps`` points of the risk-coverage curve, the last one for all images.

    Source : Geifman & El-Yaniv (2017), arXiv:1705.08500
    """
    total, confidence = len(truth), probs.max(axis=1)
    mistake = probs.argmax(axis=1) != truth
    # Images of one confidence share their mistakes evenly, so that the order of the rows does not matter.
    _, group = np.unique(-confidence, return_inverse=True)
    size = np.bincount(group)
    share = np.bincount(group, weights=mistake) / size
    risk = np.cumsum(np.repeat(share, size)) / np.arange(1, total + 1)
    sorted_down = np.sort(confidence.astype(float))[::-1]
    counts = sorted({-(-total * step // steps) for step in range(1, steps + 1)})
    return tuple(Covered(n / total, n, float(sorted_down[n - 1]), float(risk[n - 1])) for n in counts)


def mcnemar(
    truth: Labels, first: Labels, second: Labels, level: float = 0.95, groups: Groups | None = None
) -> Paired:
    """McNemar's test of equal accuracy, and how far the accuracies are apart.

    The interval is a Wald interval after one image was added to each way of differing, recommended for small
    n too by Fagerland, Lydersen & Laake (2014), doi:10.1002/sim.6148. By groups it is that of the counts
    divided by their ``design_effect``, and the p value that of the difference over its standard error.

    Parameters
    ----------
    truth : none is UNKNOWN
    first, second : predicted classes; UNKNOWN, for no prediction, is a mistake
    groups : of each image, for a test and an interval by groups

    Source : McNemar (1947), doi:10.1007/BF02295996; mid-p, Fagerland, Lydersen & Laake (2013),
        doi:10.1186/1471-2288-13-91; interval, Bonett & Price (2012), doi:10.3102/1076998611411915
    """
    n = len(truth)
    for name, labels in (("first", first), ("second", second)):
        if len(labels) != n:
            raise ValueError(f"expected {name} to predict {n} images, got {len(labels)} predictions")
    if n == 0:
        raise DataError("expected images that both classifiers predicted, got none: nothing to compare")
    first_right, second_right = first == truth, second == truth
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(second_right & ~first_right))
    # The exact test is too conservative; the chi-square test is wrong where few images differ.
    fewer, tossed = min(only_first, only_second), only_first + only_second
    # Twice the tail up to `fewer`, less half of `fewer` on both sides: the tails up to it and below it.
    below = float(bdtr(fewer - 1, tossed, 0.5)) if fewer else 0.0
    p_value = min(1.0, float(bdtr(fewer, tossed, 0.5)) + below)
    effect = design_effect(second_right.astype(float) - first_right, groups, level)
    n_alone = n / effect
    one, other = ((only / effect + 1) / (n_alone + 2) for only in (only_first, only_second))
    error = math.sqrt((one + other - (other - one) ** 2) / (n_alone + 2))
    half = normal_quantile(level) * error
    if groups is not None:
        p_value = float(2 * ndtr(-abs(other - one) / error))
    ends = max(-1.0, other - one - half), min(1.0, other - one + half)
    return Paired(
        both_right=int(np.sum(first_right & second_right)),
        only_first=only_first,
        only_second=only_second,
        neither=int(np.sum(~first_right & ~second_right)),
        p_value=p_value,
        difference=Interval((only_second - only_first) / n, *ends, level),
    )
