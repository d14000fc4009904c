"""The files of a run folder, besides run.json and the model: written from a result, read back as facts."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.correct.result import CorrectedLabels
from assay.data.dataset import Dataset
from assay.data.images import WORDS
from assay.data.write import write_json, write_rows
from assay.errors import DataError
from assay.evaluate import wilson
from assay.noise import describe
from assay.pipeline.measuring import against_noisy
from assay.pipeline.result import RunResult
from assay.types import UNKNOWN, Labels, Probs

LABEL_COLUMNS = (
    "file",
    "noisy_label",
    "trusted_label",
    "corrected_label",
    "confidence",
    "label_quality",
    "action",
    "reason",
)

HOLDOUT = "holdout"
"""The reason, in labels.csv, of an image whose trusted label is sealed."""

DECIDED = "decided"
"""That of an image whose trusted label a person gave in a review."""

VALIDATION = "validation"
"""The same of a trusted image that a fine-tuned model did not learn from."""

ISSUE_COLUMNS = ("file", "severity", "reason", "detail")

HOLDOUT_COLUMNS = ("file", "trusted_label", "predicted_label", "confidence", "reason")

COPY = "copy"
"""The reason, in holdout.csv, of an image that the figures leave out: its picture was learned from."""


def write_outputs(result: RunResult, holdout: Labels) -> None:
    """Write noise.json, labels.csv, holdout.csv, image_issues.csv and evaluation.json.

    Parameters
    ----------
    holdout : rows that were sealed
    """
    folder, dataset, learned = result.folder, result.dataset, result.learned
    noise = {
        **learned.noise.to_json(),
        "representative": learned.representative.to_json(),
        "summary": describe(learned.noise),
    }
    write_json(folder / "noise.json", noise)
    validation = learned.validation if learned.validation is not None else holdout[:0]
    columns = label_columns(dataset, learned.corrected, {VALIDATION: validation, HOLDOUT: holdout})
    write_rows(folder / "labels.csv", LABEL_COLUMNS, columns)
    says = learned.says(holdout)
    write_rows(
        folder / "holdout.csv", HOLDOUT_COLUMNS, holdout_columns(dataset, says, holdout, result.left_out)
    )
    write_rows(folder / "image_issues.csv", ISSUE_COLUMNS, issue_columns(dataset))
    write_json(folder / "evaluation.json", {**_evaluation(result), "held_out": len(holdout)})


def _evaluation(result: RunResult) -> dict[str, Any]:
    return {
        "systems": {name: found.to_json() for name, found in result.evaluations.items()},
        "better_than_baseline": result.better_than_baseline,
        "labels": corrected_figures(result.learned.corrected),
        "model": {"architecture": result.model.architecture, "size": result.model.size},
        "cost": result.cost.to_json(),
        "coverage": [sets.to_json() for sets in result.coverage],
        "left_out": result.left_out,
        "robustness": result.robustness.to_json() if result.robustness else None,
        "skipped": len(result.dataset.skipped),
        "warnings": result.warnings,
    }


def read_facts(folder: Path) -> dict[str, Any]:
    """What a finished run found, as ``assay run --json`` prints it: noise.json and evaluation.json.

    Raises
    ------
    DataError : no finished run is there
    """
    files = [folder / "noise.json", folder / "evaluation.json"]
    try:
        noise, evaluation = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: expected the folder of a finished run ({error})") from error
    return {"folder": str(folder), "noise": noise, **evaluation}


def label_columns(
    dataset: Dataset, corrected: CorrectedLabels, apart: Mapping[str, Labels]
) -> list[list[Any]]:
    """The columns of labels.csv: one row an image, in input order, labels as they came in.

    Parameters
    ----------
    apart : reason -> rows of images that were not learned from
    """
    words = np.array([*dataset.classes, ""], dtype=object)  # UNKNOWN, -1, is the empty label
    reasons = np.full(len(dataset), "", dtype=object)
    reasons[dataset.noisy == UNKNOWN] = "no given label"
    reasons[[*dataset.decided]] = DECIDED
    for reason, rows in apart.items():
        reasons[rows] = reason
    for row, why in dataset.skipped.items():
        reasons[row] = why.reason
    return [
        list(dataset.names),
        words[dataset.noisy].tolist(),
        words[corrected.trusted].tolist(),
        words[corrected.corrected].tolist(),
        np.round(corrected.confidence, 4).tolist(),
        np.round(corrected.label_quality, 4).tolist(),
        corrected.actions.tolist(),
        reasons.tolist(),
    ]


def holdout_columns(
    dataset: Dataset, says: Probs, holdout: Labels, left_out: Collection[str]
) -> list[list[Any]]:
    """The columns of holdout.csv: what the model says of the images that it is judged by, in input order.

    Parameters
    ----------
    says : (H, K) of the held-out images
    left_out : names of those that the figures leave out
    """
    words = np.array(dataset.classes, dtype=object)
    names, near_duplicates = [dataset.names[row] for row in holdout], {*left_out}
    reasons = [
        dataset.skipped[row].reason if row in dataset.skipped else COPY if name in near_duplicates else ""
        for row, name in zip(holdout.tolist(), names, strict=True)
    ]
    seen = dataset.usable[holdout]
    return [
        names,
        words[dataset.trusted[holdout]].tolist(),
        np.where(seen, words[says.argmax(axis=1)], "").tolist(),
        np.where(seen, np.round(says.max(axis=1).astype(np.float64), 4), 0.0).tolist(),
        reasons,
    ]


def issue_columns(dataset: Dataset) -> list[list[str]]:
    """The columns of image_issues.csv, in input order: skipped images, and warnings about others."""
    found = [(row, "skipped", why.reason, why.detail) for row, why in dataset.skipped.items()]
    found += [
        (row, "warning", flag, WORDS[flag]) for row, flags in dataset.image_warnings.items() for flag in flags
    ]
    found.sort(key=lambda issue: issue[0])  # stable: warnings about one image keep their order
    return [
        [dataset.names[row] for row, *_ in found],
        [severity for _, severity, *_ in found],
        [reason for *_, reason, _ in found],
        [detail for *_, detail in found],
    ]


def corrected_figures(corrected: CorrectedLabels) -> dict[str, Any]:
    """What was done to the labels, and how often that is right, from trusted images out of fold.

    ``false_alarm_rate`` is the share of right given labels that would be changed with confidence.
    """
    rows = corrected.sample
    truth, noisy, likely = corrected.trusted[rows], corrected.noisy[rows], corrected.posterior[rows]
    predicted, sure = likely.argmax(axis=1), likely.max(axis=1) >= corrected.threshold
    right, right_noisy = predicted == truth, noisy == truth
    alarms, paired = right_noisy & sure & (predicted != noisy), against_noisy(corrected)
    return {
        "counts": dict(corrected.counts),
        "threshold": corrected.threshold,
        "strength": corrected.strength,
        "accuracy": _share(right),
        "accuracy_where_sure": _share(right[sure]),
        "share_sure": float(sure.mean()) if len(rows) else 0.0,
        "false_alarm_rate": _share(alarms[right_noisy]),
        "against_noisy": paired.to_json() if paired else None,
    }


def _share(hits: np.ndarray) -> dict[str, Any] | None:
    """The share of True with its interval; None if there is nothing to count."""
    return wilson(int(hits.sum()), len(hits)).to_json() if len(hits) else None
