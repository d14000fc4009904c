"""The files of a run folder: their columns, the reasons in them, and the facts that they hold."""

import json
from pathlib import Path
from typing import Any

from assay.errors import DataError
from assay.pipeline.folder import SHARDS, RunFolder

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
"""The first columns of labels.csv; older runs have no others."""

OUTLIER_COLUMN = "outlier_score"

GROUP_COLUMN = "group"
"""The last column of labels.csv where groups were declared: a number for each."""

NO_LABEL = "no noisy label"
"""The reason, in labels.csv, of an image that nobody labelled."""

HELD_GROUP = "group of the holdout"
"""The reason of an image without a trusted label whose group is held out: nothing is trained on it."""

ANNOTATED_COLUMNS = ("annotations", "agreement", "label_gain")
"""Further columns of labels.csv, where there are several annotators."""

ANNOTATOR_COLUMNS = ("annotator", "labels", "accuracy", "low", "high", "agreement", "spam")

HOLDOUT = "holdout"
"""The reason, in labels.csv, of an image whose trusted label only the evaluation reads."""

DECIDED = "decided"
"""The reason of an image whose trusted label a person gave in a review."""

VALIDATION = "validation"
"""The reason of a trusted image that a fine-tuned model was not trained on."""

SPAM = 0.5
"""P(spam) from which an annotator is counted as one who seems to label at random."""

PRED_PROBS = "pred_probs.npy"
"""P(true | image) of each image, out of fold: for tools such as cleanlab."""

ISSUE_COLUMNS = ("file", "severity", "reason", "detail")

HOLDOUT_COLUMNS = ("file", "trusted_label", "predicted_label", "confidence", "reason")

FIRST_LABELS = 50
"""Trusted labels that a run without any asks for."""

PLAN_COLUMNS = ("file", "part", "corrected_label", "confidence")

COPY = "near_duplicate"
"""The reason, in holdout.csv, of an image that the figures leave out: the model was trained on its like."""

REFIT = "measured on the model before it was refitted on all trusted images, the holdout's too"
"""Under ``refit`` in evaluation.json: what the figures of a refitted model are of."""


def read_facts(folder: Path) -> dict[str, Any]:
    """noise.json and evaluation.json of a finished run, as ``assay run --json`` prints them; of a run in
    shards also the totals over all images, as ``everything``.
    """
    files, shards = [folder / "noise.json", folder / "evaluation.json"], folder / SHARDS
    try:
        noise, evaluation = (json.loads(file.read_text(encoding="utf-8")) for file in files)
        record = json.loads(shards.read_text(encoding="utf-8")) if shards.is_file() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: expected the folder of a finished run ({error})") from error
    found = {"everything": record["totals"]} if "totals" in record else {}
    return {"folder": str(folder), "noise": noise, **evaluation, **found}


def finished_record(folder: Path) -> dict[str, Any]:
    """run.json of a run that is complete."""
    record = RunFolder(folder).record()
    if record.get("status") != "done":
        raise DataError(f"{folder}: expected the folder of a finished run; run 'assay run' to its end first")
    return record
