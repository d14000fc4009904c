"""What groups cost: split by image, figures of patients are too good; by group, their intervals hold.

    python benchmarks/groups.py [--draws 300]

Each draw has 300 patients of four classes, with 1 to 40 images each; 120 of them have trusted labels. A
feature is that of the class, plus three times as much that a patient's images share, plus twice as much of
each image alone. The share of wrong labels differs between patients, with a mean of 0.3. A ridge classifier
goes through the steps of a run, once split by image and once by group. Its true accuracy, and that of
corrected labels, is that on 1,500 more patients, nothing of whom is trained on; their labels are corrected as
those of the run are, each by the classifier of one fold. What is counted is how often the 95 % intervals hold
the truth. Results are written to benchmarks/results/groups.json.
"""

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
from _shared import machine, write_results
from scipy.special import softmax

from assay.correct.crossfit import TrainingData, cross_fit
from assay.correct.evidence import NoisyLabels
from assay.correct.posterior import weigh
from assay.data.split import draw_holdout, folds
from assay.evaluate import evaluate_predictions, share_right
from assay.noise import Interval, estimate_noise
from assay.types import UNKNOWN, Groups, Labels, Mask, Matrix, Probs

CLASSES, WIDTH, PATIENTS, TRUSTED, IMAGES = 4, 64, 300, 120, 8
SIGNAL, PATIENT, IMAGE = 0.5, 1.5, 1.0
WRONG, ALIKE = 0.3, 0.25  # the mean share of wrong labels, and how alike those of a patient are
NEW = 1_500
BASELINE = 16  # features that the baseline sees
RESAMPLES = 500


class Ridge:
    """Least squares on probabilities, a softmax of the result: as good as the head's, in milliseconds."""

    def __init__(self, width: int = WIDTH, penalty: float = 3.0) -> None:
        self.width, self.penalty = width, penalty
        self.classes_ = np.arange(CLASSES)

    def fit_soft(self, X: Matrix, targets: Probs) -> "Ridge":
        """Solve the normal equations."""
        X = self._with_one(X)
        gram = X.T @ X + self.penalty * np.eye(X.shape[1])
        self.weights_ = np.linalg.solve(gram, X.T @ targets)
        return self

    def predict_proba(self, X: Matrix) -> Probs:
        """P(class); a run calibrates it."""
        probs: Probs = softmax(5 * self._with_one(X) @ self.weights_, axis=1)
        return probs

    def _with_one(self, X: Matrix) -> Matrix:
        return np.column_stack([X[:, : self.width].astype(np.float64), np.ones(len(X))])


def main() -> None:
    """Draw, measure, print, and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=300)
    draws = parser.parse_args().draws
    ways: dict[str, dict[str, list[tuple[float, Interval]]]] = {}
    for draw in range(draws):
        for way, figures in measure(np.random.default_rng(draw)).items():
            rows = ways.setdefault(way, defaultdict(list))
            for name, pair in figures.items():
                rows[name].append(pair)
    found: dict[str, Any] = {"draws": draws, "machine": machine()}
    for way, rows in ways.items():
        found[way] = {name: summary(pairs) for name, pairs in rows.items()}
        for name, figures in found[way].items():
            print(f"{way:9} {name:28} " + " ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    write_results("groups", found)


def summary(pairs: list[tuple[float, Interval]]) -> dict[str, float]:
    """Means of the truth and the claim, the share of intervals that hold, and their width."""
    truth = np.array([true for true, _ in pairs])
    ends = np.array([(one.estimate, one.low, one.high) for _, one in pairs])
    return {
        "truth": float(truth.mean()),
        "claimed": float(ends[:, 0].mean()),
        "covered": float(((ends[:, 1] <= truth) & (truth <= ends[:, 2])).mean()),
        "width": float((ends[:, 2] - ends[:, 1]).mean()),
    }


def measure(generator: np.random.Generator) -> dict[str, dict[str, tuple[float, Interval]]]:
    """Way to split -> figure -> (truth, interval)."""
    means = generator.normal(size=(CLASSES, WIDTH))
    X, truth, noisy, patients = draw_patients(generator, PATIENTS + NEW, means)
    trusted = np.where(patients < TRUSTED, truth, UNKNOWN)
    new = patients >= PATIENTS
    ways: dict[str, Groups | None] = {"by image": None, "by group": patients}
    found = {}
    for way, groups in ways.items():
        split = draw_holdout(trusted, groups=groups)
        visible = ~new & ~np.isin(np.arange(len(truth)), split.hidden)
        known_labels, labels = np.where(visible, trusted, UNKNOWN), NoisyLabels(noisy, visible)
        inside = fold_of(known_labels, visible, groups)
        # The new patients are predicted by the classifier of one fold too, and have no label to train on.
        folded = np.where(new, patients % 5, inside)
        data = TrainingData((X,), NoisyLabels(np.where(visible, noisy, UNKNOWN)), known_labels, CLASSES)
        fitted = cross_fit(data, folded, lambda _: Ridge())
        weighed = weigh(fitted.pred_probs, known_labels, inside, labels)
        rate = estimate_noise(
            data.labels.noisy, known_labels, CLASSES, groups=groups, pred_probs=weighed.pred_probs
        ).rate
        known = visible & (noisy != UNKNOWN)
        baseline = Ridge(BASELINE).fit_soft(X[known], np.eye(CLASSES)[noisy[known]])
        model, held = fitted.classifier, split.holdout
        of_held = None if groups is None else groups[held]
        evaluation = evaluate_predictions(
            truth[held],
            model.predict_proba(X[held]),
            tuple("abcd"),
            source="holdout",
            baseline_predicted=baseline.predict_proba(X[held]).argmax(axis=1),
            groups=of_held,
        )
        assert evaluation.paired is not None
        right, simple = (one.predict_proba(X[new]).argmax(axis=1) == truth[new] for one in (model, baseline))
        likely, sample = weighed.posterior.argmax(axis=1), np.flatnonzero(known_labels != UNKNOWN)
        of_sample = None if groups is None else groups[sample]
        figures = {
            "accuracy": (float(right.mean()), evaluation.accuracy),
            "balanced accuracy": (balanced(right, truth[new]), evaluation.balanced_accuracy),
            "gain over the baseline": (float(right.mean() - simple.mean()), evaluation.paired.difference),
            "noise rate": (WRONG, rate),
            "corrected labels": (
                float((likely == truth)[new].mean()),
                share_right(likely[sample] == truth[sample], of_sample),
            ),
        }
        if of_held is not None:
            hits = model.predict_proba(X[held]).argmax(axis=1) == truth[held]
            figures["accuracy, by the bootstrap"] = (float(right.mean()), bootstrap(hits, of_held, generator))
        found[way] = figures
    return found


def draw_patients(
    generator: np.random.Generator, n: int, means: np.ndarray
) -> tuple[Matrix, Labels, Labels, Groups]:
    """(features, true labels, noisy labels, patient) of the images of ``n`` patients."""
    size = np.clip(generator.geometric(1 / IMAGES, n), 1, 40)
    patients = np.repeat(np.arange(n), size)
    truth = generator.permutation(np.arange(n) % CLASSES)[patients]
    own = PATIENT * generator.normal(size=(n, WIDTH))
    X = SIGNAL * means[truth] + own[patients] + IMAGE * generator.normal(size=(len(patients), WIDTH))
    spread = 1 / ALIKE - 1
    wrong = (
        generator.random(len(patients)) < generator.beta(WRONG * spread, (1 - WRONG) * spread, n)[patients]
    )
    noisy = np.where(wrong, (truth + generator.integers(1, CLASSES, len(truth))) % CLASSES, truth)
    return X.astype(np.float32), truth, noisy, patients


def fold_of(trusted: Labels, visible: Mask, groups: Groups | None) -> Labels:
    """Five folds of the visible images."""
    found = np.full(len(trusted), UNKNOWN)
    found[visible] = folds(trusted[visible], 5, 0, None if groups is None else groups[visible])
    return found


def balanced(right: Mask, truth: Labels) -> float:
    """Mean recall."""
    return float(np.mean([right[truth == label].mean() for label in range(CLASSES)]))


def bootstrap(right: Mask, groups: Groups, generator: np.random.Generator) -> Interval:
    """The percentiles of the share over groups that are drawn again."""
    _, number = np.unique(groups, return_inverse=True)
    hits, size = np.bincount(number, right), np.bincount(number)
    drawn = generator.integers(len(size), size=(RESAMPLES, len(size)))
    low, high = np.quantile(hits[drawn].sum(axis=1) / size[drawn].sum(axis=1), [0.025, 0.975])
    return Interval(float(right.mean()), float(low), float(high))


if __name__ == "__main__":
    main()
