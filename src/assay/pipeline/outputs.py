"""Writing the files of a run folder besides run.json and the model."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.correct.annotators import Annotators, agreement, fit_annotators, gain_of_label
from assay.correct.result import CorrectedLabels
from assay.data.dataset import Annotations, Dataset
from assay.data.decode import FLAGS
from assay.data.split import Split
from assay.data.write import Column, write_bytes_atomic, write_json, write_rows
from assay.evaluate import Cost, Evaluation, share_right
from assay.noise import describe
from assay.pipeline.learn import Fitted
from assay.pipeline.measure import Coverage, against_noisy, better_than_baseline
from assay.pipeline.robustness import Robustness
from assay.pipeline.run_files import (
    ANNOTATED_COLUMNS,
    ANNOTATOR_COLUMNS,
    COPY,
    DECIDED,
    FIRST_LABELS,
    GROUP_COLUMN,
    HELD_GROUP,
    HOLDOUT,
    HOLDOUT_COLUMNS,
    ISSUE_COLUMNS,
    LABEL_COLUMNS,
    NO_LABEL,
    OUTLIER_COLUMN,
    PLAN_COLUMNS,
    PRED_PROBS,
    REFIT,
    SPAM,
    VALIDATION,
)
from assay.predict.model import Model
from assay.types import UNKNOWN, Groups, PerImage, Rows


def write_noise(folder: Path, fitted: Fitted) -> None:
    """noise.json: the rate, the transition matrix, and whether the trusted images look like the others."""
    representative, summary = fitted.representative.to_json(), describe(fitted.noise)
    facts = {**fitted.noise.to_json(), "representative": representative, "summary": summary}
    write_json(folder / "noise.json", facts)


def write_labels(
    folder: Path, dataset: Dataset, fitted: Fitted, split: Split, *, excel_safe: bool = False
) -> None:
    """labels.csv: one row an image, in input order, labels as they came in, without those of the holdout."""
    corrected = fitted.corrected
    # Of several reasons the last one is written: a skipped image of the holdout is skipped.
    reasons = np.full(len(dataset), "", dtype=object)
    reasons[dataset.noisy == UNKNOWN] = NO_LABEL
    reasons[split.beside] = HELD_GROUP
    reasons[[*dataset.decided]] = DECIDED
    if fitted.validation is not None:
        reasons[fitted.validation] = VALIDATION
    reasons[split.holdout] = HOLDOUT
    for row, why in dataset.skipped.items():
        reasons[row] = why.reason
    columns = label_columns(dataset, corrected, reasons.tolist())
    header: tuple[str, ...] = (*LABEL_COLUMNS, OUTLIER_COLUMN)
    if (given := usable_annotations(dataset)) is not None:
        counts, shares = agreement(given, corrected.corrected)
        gain = gain_of_label(corrected.posterior, rate(given, corrected))
        gain[~dataset.usable | (corrected.trusted != UNKNOWN)] = 0.0
        header = (*header, *ANNOTATED_COLUMNS)
        columns += [counts.tolist(), _rounded(shares), _rounded(gain)]
    if dataset.groups is not None:
        header, columns = (*header, GROUP_COLUMN), [*columns, dataset.groups.tolist()]
    write_rows(folder / "labels.csv", header, columns, excel_safe=excel_safe)


def write_pred_probs(folder: Path, fitted: Fitted) -> None:
    """pred_probs.npy: (N, K) float16, a row for each of labels.csv, a column for each class of the model."""
    # Half the bytes of float32, and as good for ranking: small numbers keep three digits down to 6e-5.
    buffer = io.BytesIO()
    np.save(buffer, fitted.out_of_fold.astype(np.float16), allow_pickle=False)
    write_bytes_atomic(folder / PRED_PROBS, buffer.getvalue())


def label_columns(
    dataset: Dataset, corrected: CorrectedLabels, reasons: Sequence[str]
) -> list[Sequence[Any]]:
    """``LABEL_COLUMNS`` and the outlier score of each image, labels as they came in."""
    words = np.array([*dataset.classes, ""], dtype=object)  # UNKNOWN, -1, is the empty label
    scores: list[float | None] = [None] * len(dataset)
    if corrected.outliers is not None:
        found = np.round(corrected.outliers.score, 3).tolist()
        scores = [score if good else None for score, good in zip(found, corrected.usable, strict=True)]
    return [
        list(dataset.names),
        words[dataset.noisy].tolist(),
        words[corrected.trusted].tolist(),
        words[corrected.corrected].tolist(),
        np.round(corrected.confidence, 4).tolist(),
        np.round(corrected.label_quality, 4).tolist(),
        corrected.actions.tolist(),
        reasons,
        scores,
    ]


def write_annotators(
    folder: Path, dataset: Dataset, fitted: Fitted, *, excel_safe: bool = False
) -> dict[str, Any] | None:
    """annotators.csv: whom to ask next, first the most accurate; and how many there are. None without any."""
    given = usable_annotations(dataset)
    if given is None:
        return None
    found = rate(given, fitted.corrected)
    order = np.argsort(-found.low, kind="stable")
    numbers = (found.accuracy, found.low, found.high, found.agreement, found.spam)
    columns: list[Sequence[Any]] = [
        [given.names[one] for one in order.tolist()],
        found.labels[order].astype(int).tolist(),
        *(_rounded(of[order]) for of in numbers),
    ]
    write_rows(folder / "annotators.csv", ANNOTATOR_COLUMNS, columns, excel_safe=excel_safe)
    return {"annotators": len(given.names), "labels": len(given), "spam": int((found.spam >= SPAM).sum())}


def usable_annotations(dataset: Dataset) -> Annotations | None:
    """The labels of several annotators, of images that are used; None where an image has one noisy label."""
    if dataset.annotations is None:
        return None
    return dataset.annotations.without(np.flatnonzero(~dataset.usable))


def rate(annotations: Annotations, corrected: CorrectedLabels) -> Annotators:
    """How well each annotator labels, by the corrected labels with their probabilities."""
    likely, known = corrected.posterior.copy(), np.flatnonzero(corrected.trusted != UNKNOWN)
    likely[known] = np.eye(likely.shape[1])[corrected.trusted[known]]
    return fit_annotators(annotations, likely)


def _rounded(numbers: PerImage) -> list[float | None]:
    """For a cell each, to four decimals; None for NaN."""
    return [None if np.isnan(number) else round(number, 4) for number in numbers.tolist()]


def write_holdout(
    folder: Path, dataset: Dataset, fitted: Fitted, holdout: Rows, leaked: Rows, *, excel_safe: bool = False
) -> None:
    """holdout.csv: what the model predicts for each held-out image, in input order."""
    words, left_out = np.array(dataset.classes, dtype=object), {*leaked.tolist()}
    probs = fitted.probs_of(holdout)
    reasons = [
        dataset.skipped[row].reason if row in dataset.skipped else COPY if row in left_out else ""
        for row in holdout.tolist()
    ]
    usable = dataset.usable[holdout]  # a skipped image has no prediction
    columns = [
        [dataset.names[row] for row in holdout],
        words[dataset.trusted[holdout]].tolist(),
        np.where(usable, words[probs.argmax(axis=1)], "").tolist(),
        np.where(usable, np.round(probs.max(axis=1).astype(np.float64), 4), 0.0).tolist(),
        reasons,
    ]
    write_rows(folder / "holdout.csv", HOLDOUT_COLUMNS, columns, excel_safe=excel_safe)


def choose_to_label(
    unlabelled: Rows, doubted: Rows, confidence: PerImage, n: int, *, seed: int = 0
) -> tuple[Rows, Rows]:
    """``n`` images at random, and as many of the lowest confidence.

    Parameters
    ----------
    unlabelled : images that a fair sample may be drawn of
    doubted : images that a review may show
    """
    random = np.random.default_rng(seed).permutation(unlabelled)[:n]
    return random, doubted[np.argsort(confidence[doubted], kind="stable")][:n]


def write_images_to_label(
    folder: Path,
    names: Sequence[str],
    proposed: Sequence[str],
    confidence: PerImage,
    random: Rows,
    doubtful: Rows,
    *,
    excel_safe: bool = False,
) -> None:
    """plan.csv: a fair sample to be labelled as trusted images, and the most doubtful ones for a review."""
    rows = np.concatenate([random, doubtful])
    columns: list[Column] = [
        [names[row] for row in rows.tolist()],
        ["random"] * len(random) + ["doubtful"] * len(doubtful),
        [proposed[row] for row in rows.tolist()],
        np.round(confidence[rows], 4).tolist(),
    ]
    write_rows(folder / "plan.csv", PLAN_COLUMNS, columns, excel_safe=excel_safe)


def write_first_plan(
    folder: Path, dataset: Dataset, fitted: Fitted, seed: int, *, excel_safe: bool = False
) -> None:
    """plan.csv of a run without trusted labels: ``FIRST_LABELS`` random images, and as many doubtful ones."""
    corrected = fitted.corrected
    words = np.array([*dataset.classes, ""], dtype=object)[corrected.corrected].tolist()
    left = np.flatnonzero(corrected.usable & (corrected.trusted == UNKNOWN))
    random, doubtful = choose_to_label(left, left, corrected.confidence, FIRST_LABELS, seed=seed)
    write_images_to_label(
        folder, dataset.names, words, corrected.confidence, random, doubtful, excel_safe=excel_safe
    )


def write_issues(folder: Path, dataset: Dataset, *, excel_safe: bool = False) -> None:
    """image_issues.csv: skipped images and warnings about others, in input order."""
    found = [(row, "skipped", why.reason, why.detail) for row, why in dataset.skipped.items()]
    found += [
        (row, "warning", flag, FLAGS[flag]) for row, flags in dataset.image_warnings.items() for flag in flags
    ]
    found.sort(key=lambda issue: issue[0])  # stable: warnings about one image keep their order
    columns = [
        [dataset.names[row] for row, *_ in found],
        [severity for _, severity, *_ in found],
        [reason for *_, reason, _ in found],
        [detail for *_, detail in found],
    ]
    write_rows(folder / "image_issues.csv", ISSUE_COLUMNS, columns, excel_safe=excel_safe)


def write_evaluation(
    folder: Path,
    dataset: Dataset,
    fitted: Fitted,
    model: Model,
    evaluations: Mapping[str, Evaluation],
    *,
    holdout: Rows,
    leaked: Rows,
    cost: Cost,
    coverage: Sequence[Coverage],
    robustness: Robustness | None,
    warnings: Sequence[str],
    annotators: Mapping[str, Any] | None = None,
) -> None:
    """evaluation.json: all figures, and what they do not cover.

    Parameters
    ----------
    warnings : about what was found; those of reading are among the notes of ``dataset``
    """
    # What reading warned of was printed before the run had results.
    early = [note for note in dataset.notes if note.startswith("warning: ")]
    facts: dict[str, Any] = {
        "systems": {name: found.to_json() for name, found in evaluations.items()},
        "better_than_baseline": better_than_baseline(evaluations),
        "labels": corrected_figures(fitted.corrected, dataset.groups),
        "outliers": fitted.corrected.outliers.to_json() if fitted.corrected.outliers else None,
        "model": {"architecture": model.architecture, "size": model.size}
        | ({"width": model.width} if model.width else {}),
        "cost": cost.to_json(),
        "coverage": [sets.to_json() for sets in coverage],
        "held_out": len(holdout),
        "left_out": [dataset.names[row] for row in leaked],
        "robustness": robustness.to_json() if robustness else None,
        "skipped": len(dataset.skipped),
        **({"groups": groups["count"]} if (groups := dataset.group_facts()) else {}),
        "warnings": [*(note.removeprefix("warning: ") for note in early), *warnings],
    }
    if annotators is not None:
        facts["annotators"] = annotators
    if model.facts.get("refit"):
        facts["refit"] = REFIT
    write_json(folder / "evaluation.json", facts)


def corrected_figures(corrected: CorrectedLabels, groups: Groups | None = None) -> dict[str, Any]:
    """How many labels were changed, and how often that is right, counted on trusted images out of fold.

    ``false_alarm_rate`` is the share of right noisy labels that would be changed with confidence.
    """
    rows = corrected.sample
    truth, noisy, likely = corrected.trusted[rows], corrected.noisy[rows], corrected.posterior[rows]
    predicted, sure = likely.argmax(axis=1), likely.max(axis=1) >= corrected.threshold
    right, right_noisy = predicted == truth, noisy == truth
    alarms, paired = right_noisy & sure & (predicted != noisy), against_noisy(corrected, groups)
    everywhere = np.ones(len(rows), dtype=bool)

    def share(hits: np.ndarray, among: np.ndarray = everywhere) -> dict[str, Any] | None:
        of_some = None if groups is None else groups[rows[among]]
        return share_right(hits[among], of_some).to_json() if among.any() else None

    return {
        "counts": dict(corrected.counts),
        "threshold": corrected.threshold,
        "strength": corrected.strength,
        "accuracy": share(right),
        "accuracy_where_sure": share(right, sure),
        "share_sure": float(sure.mean()) if len(rows) else 0.0,
        "false_alarm_rate": share(alarms, right_noisy),
        "against_noisy": paired.to_json() if paired else None,
    }
