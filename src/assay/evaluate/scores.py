"""The classification report: precision, recall and F1 of each class, and how classes are confused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay.errors import LabelError
from assay.types import Counts, Labels, PerClass


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

    def to_json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)


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
        return {
            "classes": [scores.to_json() for scores in self.classes],
            "accuracy": self.accuracy,
            "macro": self.macro.to_json(),
            "weighted": self.weighted.to_json(),
            "confusion": self.confusion.tolist(),
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Report":
        """What ``to_json`` gave, read back."""
        return Report(
            classes=tuple(ClassScores(**scores) for scores in found["classes"]),
            accuracy=found["accuracy"],
            macro=ClassScores(**found["macro"]),
            weighted=ClassScores(**found["weighted"]),
            confusion=np.array(found["confusion"], dtype=np.int64),
        )


def classification_report(truth: Labels, predicted: Labels, class_names: Sequence[str]) -> Report:
    """Precision, recall, F1 and support of each class, their averages, and the confusion matrix.

    Where a share has nothing to divide by it is 0, as scikit-learn's with ``zero_division=0``. The macro
    average leaves out classes that no image is of and none was called.

    Parameters
    ----------
    truth, predicted : class index of each image; none is UNKNOWN
    class_names : K names, in the order of the indices

    Raises
    ------
    LabelError : a label that is not the index of a class
    ValueError : labels of different length
    """
    confusion = confusion_matrix(truth, predicted, len(class_names))
    hits, support = np.diagonal(confusion), confusion.sum(axis=1)
    precision = _divide(hits, confusion.sum(axis=0))
    recall = _divide(hits, support)
    f1 = _divide(2 * hits, confusion.sum(axis=0) + support)
    columns = zip(class_names, precision, recall, f1, support, strict=True)
    classes = tuple(ClassScores(name, float(p), float(r), float(f), int(s)) for name, p, r, f, s in columns)
    n = int(support.sum())
    return Report(
        classes,
        accuracy=float(hits.sum() / n) if n else 0.0,
        macro=_average("macro avg", classes, _present(confusion), n),
        weighted=_average("weighted avg", classes, [scores.support for scores in classes], n),
        confusion=confusion,
    )


def confusion_matrix(truth: Labels, predicted: Labels, n_classes: int) -> Counts:
    """Images at [true, predicted], shape (K, K).

    Raises
    ------
    LabelError : a label that is not the index of a class
    ValueError : labels of different length
    """
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


def _present(confusion: Counts) -> list[int]:
    """1 for each class that an image is of or was called, else 0, as scikit-learn's macro average has it."""
    present: list[int] = ((confusion.sum(axis=0) + confusion.sum(axis=1)) > 0).astype(int).tolist()
    return present


def _divide(hits: np.ndarray, of: np.ndarray) -> PerClass:
    return np.where(of > 0, hits / np.maximum(of, 1), 0.0)


def _average(name: str, classes: Sequence[ClassScores], weights: Sequence[int], n: int) -> ClassScores:
    def mean(shares: Iterable[float]) -> float:
        return sum(w * share for w, share in zip(weights, shares, strict=True)) / max(sum(weights), 1)

    return ClassScores(
        name,
        precision=mean(scores.precision for scores in classes),
        recall=mean(scores.recall for scores in classes),
        f1=mean(scores.f1 for scores in classes),
        support=n,
    )


def format_report(report: Report) -> str:
    """The report as text for a terminal, in scikit-learn's layout, two decimals, ending in a newline."""
    averages = (report.macro, report.weighted)
    width = max(len(scores.name) for scores in (*report.classes, *averages))
    header = _row("", width, "precision", "recall", "f1-score", "support")
    accuracy = _row("accuracy", width, "", "", f"{report.accuracy:.2f}", str(report.macro.support))
    lines = [header, "", *(_scores_row(scores, width) for scores in report.classes), ""]
    lines += [accuracy, *(_scores_row(scores, width) for scores in averages)]
    return "\n".join(lines) + "\n"


def _scores_row(scores: ClassScores, width: int) -> str:
    shares = (f"{share:.2f}" for share in (scores.precision, scores.recall, scores.f1))
    return _row(scores.name, width, *shares, str(scores.support))


def _row(name: str, width: int, *cells: str) -> str:
    return f"{name:>{width}} " + "".join(f" {cell:>9}" for cell in cells)
