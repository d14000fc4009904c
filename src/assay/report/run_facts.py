"""What a run worked on, what it did, what it cost, and how to do it again."""

import csv
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.correct.findings import KINDS
from assay.correct.result import ACTIONS
from assay.errors import DataError
from assay.pipeline.auditing import run_digests
from assay.pipeline.finished import FinishedRun
from assay.pipeline.outputs import DECIDED, VALIDATION
from assay.report.galleries import Gallery, Picture
from assay.report.noise_facts import Facts

STAGES = {
    "read": "read the labels, list the images",
    "load": "load the backbone",
    "embed": "turn images into features",
    "seal": "set the holdout aside, find copies",
    "learn": "estimate the noise, fix the labels, fit the model",
    "fine-tune": "fine-tune the network, correct the labels",
    "baseline": "train the baseline",
    "measure": "measure",
    "export": "export the model and check it",
    "damage": "measure the model on damaged images",
    "write": "write the results",
}
"""The stages of a run in their order, in words."""

MOST_MOVES = 10
MOST_SKIPPED = 200
MOST_FINDINGS = 5
"""Rows that are shown; the run's files have all."""

Json = Mapping[str, Any]


def data_facts(run: FinishedRun, evaluation: Json) -> Facts:
    """How many images, classes and trusted labels there were, and what became of them.

    ``judged`` are trusted images whose trusted label a fine-tuned model did not learn: it was judged by them.
    """
    data, split = run.record["data"], run.record["split"]
    places = list(zip(run.actions, run.reasons, strict=True))
    usable = sum(action == "trusted" and reason != DECIDED for action, reason in places)
    judged = sum(reason == VALIDATION for reason in run.reasons)
    # Nothing in labels.csv marks the spies, by which the fixed labels are judged.
    judged += evaluation["systems"].get("labels_validated", {"n": 0})["n"]
    return {
        "images": len(run),
        "classes": len(run.titles),
        "trusted": data["trusted"],
        "learned_from": usable - judged,
        "judged": judged,
        "held_out": split["holdout"],
        "decided": data.get("decided", 0),
        "place": str(run.stored_place or ""),
    }


def change_facts(
    run: FinishedRun,
    evaluation: Json,
    galleries: Sequence[Gallery],
    pictures: Mapping[int, Picture | str],
) -> Facts:
    """What was done to the labels: counts, the most frequent changes, and the images that are shown."""
    changed = np.array([action == "changed" for action in run.actions], dtype=bool)
    moves = Counter(zip(run.noisy[changed].tolist(), run.proposed[changed].tolist(), strict=True))
    words = (*run.titles, "")  # UNKNOWN, -1, has the empty name
    figures = evaluation["labels"]
    return {
        "counts": {action: figures["counts"][action] for action in ACTIONS},
        **{key: value for key, value in figures.items() if key != "counts"},
        "moves": [
            {"noisy": words[noisy], "corrected": words[corrected], "count": count}
            for (noisy, corrected), count in moves.most_common(MOST_MOVES)
        ],
        "galleries": [
            {
                "title": gallery.title,
                "about": gallery.about,
                "of": gallery.of,
                "images": [_image(run, words, row, pictures[row]) for row in gallery.rows],
            }
            for gallery in galleries
        ],
    }


def _image(run: FinishedRun, words: Sequence[str], row: int, picture: Picture | str) -> Facts:
    return {
        "row": row,
        "file": run.names[row],
        "noisy": words[run.noisy[row]],
        "corrected": words[run.proposed[row]],
        "confidence": float(run.confidence[row]),
        "not_shown": picture if isinstance(picture, str) else None,
    }


def cost_facts(run: FinishedRun, evaluation: Json) -> Facts:
    """Seconds of each stage, memory at its peak, bytes of the model."""
    spent = run.record["seconds"]
    order = [*STAGES, *(stage for stage in spent if stage not in STAGES)]
    return {
        **evaluation["cost"],
        "stages": [
            {"stage": stage, "what": STAGES.get(stage, stage), "seconds": spent[stage]}
            for stage in order
            if stage in spent
        ],
        "features_computed": run.record.get("features_computed"),
        "processes": run.record["processes"],
        "model": evaluation["model"],
        "machine": run.record["machine"],
    }


def skipped_facts(folder: Path) -> Facts:
    """The images that could not be used, and why.

    Raises
    ------
    DataError : image_issues.csv is not there, or not a run's
    """
    file = folder / "image_issues.csv"
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
            rows = [
                {key: row[key] for key in ("file", "reason", "detail")}
                for row in csv.DictReader(opened)
                if row["severity"] == "skipped"
            ]
    except (OSError, KeyError, csv.Error) as error:
        raise DataError(
            f"{file}: expected the skipped images of a run ({error!r}); give the run's command again"
        ) from None
    reasons = Counter(row["reason"] for row in rows)
    return {"count": len(rows), "reasons": dict(reasons.most_common()), "first": rows[:MOST_SKIPPED]}


def audit_facts(run: FinishedRun) -> tuple[Facts | None, list[str]]:
    """What ``assay audit`` found, if it was asked: how many of each kind, and the gravest of them; beside it
    sentences that say what is left out.

    None of an audit that is not known to be of this very run: what it found may be mended since.

    Raises
    ------
    DataError : an audit.json that assay audit did not write
    """
    file = run.folder / "audit.json"
    if not file.is_file():
        return None, []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.get("run") != run_digests(run.record):
            return None, ["audit.json is left out: it is not of this very run; give assay audit again"]
        same = ("redundant", "outliers", "confused_labels", "look_alikes")
        facts = {key: found[key] for key in same} | {
            "images_in_near_duplicates": found["counts"]["images_in_near_duplicates"]
        }
        kinds = [_kind(kind, words, found) for kind, words in KINDS.items()]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}: expected what assay audit writes ({error!r}); delete it, or give assay audit again"
        ) from None
    return facts | {"kinds": kinds}, []


def _kind(kind: str, words: str, found: Json) -> Facts:
    rows = found["findings"][kind][:MOST_FINDINGS]
    first = [{"file": row["file"], "others": row["others"], "score": row["score"]} for row in rows]
    return {"kind": kind, "what": words, "count": found["counts"][kind], "first": first}


def reproduce_facts(run: FinishedRun) -> Facts:
    """The command, and all that the same bytes depend on."""
    record = run.record
    same = ("settings", "versions", "machine", "backbone", "data", "split", "holdout_evaluations")
    command = record.get("command", [])
    return {
        "command": command,
        "shell": shlex.join(command),
        "seed": record["settings"]["seed"],
        **{key: record[key] for key in same},
    }
