"""The files of a run folder, besides run.json and the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay._types import UNKNOWN, Labels
from assay.data.dataset import Dataset
from assay.data.write import write_json
from assay.data.write_rows import write_rows
from assay.estimate import describe
from assay.fix.result import FixedLabels
from assay.learn.model import Model
from assay.measure import Cost, Evaluation, format_report, wilson
from assay.recipes.assay import Learned

LABEL_COLUMNS = ("name", "given", "trusted", "fixed", "confidence", "p_given", "action", "reason")


def write_outputs(
    folder: Path,
    dataset: Dataset,
    learned: Learned,
    evaluations: Mapping[str, Evaluation],
    holdout: Labels,
    cost: Cost,
    warnings: tuple[str, ...],
) -> None:
    """Write noise.json, labels.csv, skipped.csv and evaluation.json."""
    noise = {**learned.noise.to_json(), "representative": learned.representative.to_json()}
    write_json(folder / "noise.json", noise)
    write_rows(folder / "labels.csv", LABEL_COLUMNS, label_columns(dataset, learned.fixed, holdout))
    skipped = sorted(dataset.skipped.items())
    columns = [
        [dataset.names[row] for row, _ in skipped],
        [why.reason for _, why in skipped],
        [why.detail for _, why in skipped],
    ]
    write_rows(folder / "skipped.csv", ("name", "reason", "detail"), columns)
    write_json(
        folder / "evaluation.json",
        {
            "recipes": {name: found.to_json() for name, found in evaluations.items()},
            "labels": fixed_figures(learned.fixed),
            "cost": cost.to_json(),
            "warnings": warnings,
        },
    )


def label_columns(dataset: Dataset, fixed: FixedLabels, holdout: Labels) -> list[list[Any]]:
    """The columns of labels.csv: one row an image, in input order, labels as they came in."""
    words = np.array([*dataset.classes, ""], dtype=object)  # UNKNOWN, -1, is the empty label
    reasons = np.full(len(dataset), "", dtype=object)
    reasons[dataset.given == UNKNOWN] = "no given label"
    reasons[holdout] = "holdout"
    for row, why in dataset.skipped.items():
        reasons[row] = why.reason
    return [
        list(dataset.names),
        words[dataset.given].tolist(),
        words[fixed.trusted].tolist(),
        words[fixed.fixed].tolist(),
        np.round(fixed.confidence, 4).tolist(),
        np.round(fixed.p_given, 4).tolist(),
        fixed.actions.tolist(),
        reasons.tolist(),
    ]


def fixed_figures(fixed: FixedLabels) -> dict[str, Any]:
    """What was done to the labels, and how often that is right, from trusted images out of fold."""
    rows = np.flatnonzero((fixed.trusted != UNKNOWN) & fixed.usable)
    truth, given = fixed.trusted[rows], fixed.given[rows]
    predicted, sure = (
        fixed.posterior[rows].argmax(axis=1),
        fixed.posterior[rows].max(axis=1) >= fixed.threshold,
    )
    right = predicted == truth
    correct_given = (given == truth) & (given != UNKNOWN)
    alarms = correct_given & sure & (predicted != given)
    return {
        "counts": dict(fixed.counts),
        "threshold": fixed.threshold,
        "strength": fixed.strength,
        "accuracy": wilson(int(right.sum()), len(rows)).to_json(),
        "accuracy_where_sure": wilson(int((right & sure).sum()), int(sure.sum())).to_json()
        if sure.any()
        else None,
        "share_sure": float(sure.mean()) if len(rows) else 0.0,
        "false_alarm_rate": wilson(int(alarms.sum()), int(correct_given.sum())).to_json()
        if correct_given.any()
        else None,
    }


def model_card(model: Model, learned: Learned, evaluations: Mapping[str, Evaluation]) -> str:
    """README.md of a model: what it is, what was measured, where it ends."""
    lines = [
        f"# Image classifier: {len(model.labels)} classes",
        "",
        f"Backbone `{model.architecture}` at {model.size} px, "
        f"a head on its features. {describe(learned.noise)}",
        "",
        "## Measured",
        "",
    ]
    for name, found in evaluations.items():
        accuracy = found.accuracy
        lines.append(
            f"- {name}: accuracy {accuracy.estimate:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f}, "
            f"{accuracy.level:.0%} interval, n = {found.n}, {found.source})"
        )
    if "assay" in evaluations:
        lines += ["", "```", format_report(evaluations["assay"].report).rstrip(), "```"]
    else:
        lines += ["", "No image was held out: the accuracy of this very model is not measured."]
    lines += [
        "",
        "## Limits",
        "",
        "The figures hold for images like the trusted ones. Strong compression, blur or another camera "
        "were not measured. A class that the labels do not name is never predicted.",
        "",
    ]
    return "\n".join(lines)
