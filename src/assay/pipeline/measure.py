"""The figures of a run, on images that the model was not trained on, and the warnings that follow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.correct.result import CorrectedLabels
from assay.correct.undeclared_groups import undeclared_groups
from assay.data.dataset import Dataset, why_skipped
from assay.evaluate import Evaluation, Paired, Source, evaluate_predictions, mcnemar, share_right
from assay.noise import Interval
from assay.pipeline.holdout import Partition
from assay.pipeline.learn import Baseline, Fitted
from assay.pipeline.shown import TITLES, main_figures, why_not_measured
from assay.predict.batch import conformal_thresholds, prediction_sets
from assay.text import interval
from assay.types import UNKNOWN, Groups, Rows

BALANCED = (
    "the model predicts as if all classes were equally frequent (--balanced): judge it by its balanced "
    "accuracy; accuracy and calibration are measured on images mixed as the trusted ones"
)
"""What a reader of the figures of a balanced model must know."""

CARD_LEVELS = (0.9, 0.95, 0.99)
"""Coverages that a model card shows."""


@dataclass(frozen=True)
class Coverage:
    """Prediction sets for one target coverage."""

    asked: float
    n: int
    """Images."""
    held: Interval
    """Share of images whose set holds the right label."""
    labels: float
    """In a set, on average."""

    def to_json(self) -> dict[str, float]:
        """As plain numbers."""
        return {"asked": self.asked, **self.held.to_json(), "labels": self.labels}


def _at(groups: Groups | None, rows: Rows) -> Rows | None:
    return None if groups is None else groups[rows]


def evaluate_holdout(
    dataset: Dataset,
    partition: Partition,
    fitted: Fitted,
    baseline: Baseline,
    n_skipped: int,
) -> dict[str, Evaluation]:
    """Model and baseline on the holdout; its trusted labels are read here and in ``measure_coverage``.

    Parameters
    ----------
    n_skipped : held-out images that could not be used
    """
    names = dataset.titles or dataset.classes
    parts = {"": partition.evaluated}
    # With the near-duplicates too, so that their effect can be seen.
    if len(partition.leaked):
        parts["_leaks_included"] = partition.holdout
    found: dict[str, Evaluation] = {}
    for suffix, rows in parts.items():
        if not len(rows):
            continue
        truth, simple, ours = dataset.trusted[rows], baseline.probs_of(rows), fitted.probs_of(rows)
        for name, probs, rival in ((baseline.name, simple, None), ("assay", ours, simple.argmax(axis=1))):
            found[f"{name}{suffix}"] = evaluate_predictions(
                truth,
                probs,
                names,
                source="holdout",
                baseline_predicted=rival,
                skipped=n_skipped,
                groups=_at(dataset.groups, rows),
            )
    return found


def evaluate_fit(dataset: Dataset, fitted: Fitted) -> dict[str, Evaluation]:
    """The model and the corrected labels on trusted images that were not held out: out of fold, or on those
    that fine-tuning kept aside.
    """
    corrected, names = fitted.corrected, dataset.titles or dataset.classes
    sample = corrected.sample  # trusted images whose own label did not correct them
    source: Source
    if fitted.validation is None:
        rows, source, suffix = sample, "cross-validation", "cross_validated"
    else:
        rows, source, suffix = fitted.validation, "validation", "validated"
    return {
        f"{name}_{suffix}": evaluate_predictions(
            corrected.trusted[some], probs[some], names, source=source, groups=_at(dataset.groups, some)
        )
        for name, some, probs in (("assay", rows, fitted.unseen), ("labels", sample, corrected.posterior))
        if len(some)
    }


def better_than_baseline(evaluations: Mapping[str, Evaluation]) -> bool | None:
    """Whether the interval of what ``assay`` gains over its baseline lies above 0; None without both.

    The baseline of features is strong where the noise is weak: as good is no failure there, and gives None.
    Measurably worse is one, and no better than one class for all.
    """
    found = evaluations.get("assay")
    if found is None or found.paired is None:
        return None
    gain = found.paired.difference
    if "noisy_only" in evaluations and gain.low <= 0 <= gain.high:
        return None if found.accuracy.low > _most_frequent(found) else False
    return gain.low > 0  # a gain that may be chance does not count


def _most_frequent(found: Evaluation) -> float:
    return max(one.support for one in found.report.classes) / found.n


def against_noisy(corrected: CorrectedLabels, groups: Groups | None = None) -> Paired | None:
    """Noisy and corrected labels on the same trusted images; None where none has a noisy label."""
    rows = corrected.sample[corrected.noisy[corrected.sample] != UNKNOWN]
    if not len(rows):
        return None
    likely, groups = corrected.posterior[rows].argmax(axis=1), _at(groups, rows)
    return mcnemar(corrected.trusted[rows], corrected.noisy[rows], likely, groups=groups)


def warnings_of(
    dataset: Dataset,
    partition: Partition,
    fitted: Fitted,
    evaluations: Mapping[str, Evaluation],
    n_held_out: int,
) -> list[str]:
    """What a user should know before relying on the run: noise, trusted images, holdout, labels, model."""
    found = [*fitted.noise.notes, *fitted.representative.warnings]
    if dataset.skipped:
        reasons = Counter(why.reason for why in dataset.skipped.values())
        found.append(
            f"{len(dataset.skipped):,} images could not be used, see image_issues.csv: {why_skipped(reasons)}"
        )
    if len(partition.leaked):
        found.append(
            f"{len(partition.leaked):,} holdout images are near-duplicates of training images; excluded from "
            "the evaluation"
        )
    if dataset.groups is None:
        features, labels = partition.data.features.views[0], fitted.corrected.corrected
        suggested = undeclared_groups(dataset.names, labels, features, partition.near_duplicates)
        found += [suggested] if suggested else []
    if n_held_out and "assay" not in evaluations:
        why = why_not_measured(evaluations, n_held_out)
        found.append(f"{why[0].lower()}{why[1:]}: this model's accuracy is not measured")
    if partition.data.balanced:
        found.append(BALANCED)
    main = evaluations.get(main_figures({name: one.n for name, one in evaluations.items()}))
    if main and main.too_small:
        found.append(f"{main.too_small}; add trusted labels")
    paired = against_noisy(fitted.corrected, dataset.groups)
    # Where nearly all noisy labels are right, there is nothing to gain.
    if paired and paired.difference.low <= 0:
        found.append(
            f"on {paired.n:,} trusted images the corrected labels are not measurably better than the noisy "
            "ones: add trusted labels, or use the noisy ones"
        )
    ours = evaluations.get("assay")
    if ours is not None and ours.paired is not None and ours.paired.difference.low <= 0:
        title = next(title for name, title in TITLES.items() if name in evaluations)
        found.append(f"on the holdout the model is not measurably better than the {title}")
        if "noisy_only" in evaluations and ours.accuracy.low <= _most_frequent(ours):
            found.append("on the holdout the model is not measurably better than one class for all images")
    return found


def set_thresholds(fitted: Fitted) -> dict[str, float]:
    """Coverage -> least probability of a class in a prediction set, from trusted images not trained on."""
    rows = fitted.corrected.sample if fitted.validation is None else fitted.validation
    return conformal_thresholds(fitted.unseen[rows], fitted.corrected.trusted[rows])


def measure_coverage(dataset: Dataset, partition: Partition, fitted: Fitted) -> tuple[Coverage, ...]:
    """How often the prediction sets hold the right label of a held-out image, for each target coverage."""
    truth = dataset.trusted[partition.evaluated]
    if not len(truth):
        return ()
    probs, found = fitted.probs_of(partition.evaluated), []
    for asked, least in set_thresholds(fitted).items():
        sets = prediction_sets(probs, least)
        held = share_right(sets[np.arange(len(truth)), truth], _at(dataset.groups, partition.evaluated))
        found.append(Coverage(float(asked), len(truth), held, float(sets.sum(axis=1).mean())))
    return tuple(found)


def coverage_lines(found: Sequence[Coverage]) -> list[str]:
    """A table for a model card; nothing where nothing was held out."""
    rows = []
    for one in found:
        if one.asked in CARD_LEVELS:
            share = one.held
            rows.append(
                f"| {100 * one.asked:g} % | {interval(share.to_json(), one.n)}, n = {one.n:,} "
                f"| {one.labels:.2f} |"
            )
    if not rows:
        return []
    head = ["| asked | sets that hold the right label | labels in a set |", "|---|---|---|"]
    return ["", "Sets of labels (`--coverage`), on the holdout:", "", *head, *rows]
