"""How good the model and the fixed labels are: figures, classes, confusions, curves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from assay.notebook.compare_table import notes
from assay.pipeline.finished import FinishedRun
from assay.pipeline.measuring import TITLES
from assay.pipeline.record import differences
from assay.report.confusion import describe_confusion
from assay.report.noise_facts import Facts, largest_cells
from assay.text import cut
from assay.types import UNKNOWN

MOST_ROWS = 1_000
"""Rows of the table of classes; of more those that are found worst, the last ones those not measured."""

Json = Mapping[str, Any]


def figures(noise: Json, evaluation: Json) -> list[Facts]:
    """Every accuracy of the run with its interval, the given labels first."""
    right = {
        "estimate": 1 - noise["rate"]["estimate"],
        "low": 1 - noise["rate"]["high"],
        "high": 1 - noise["rate"]["low"],
        "level": noise["rate"]["level"],
    }
    noisy: Facts = {"system": "noisy", "title": "given labels", "source": "trusted images", "accuracy": right}
    noisy |= {"n": noise["n_pairs"], "macro_f1": None, "calibration_error": None, "paired": None}
    same = ("source", "n", "accuracy", "calibration_error", "negative_log_likelihood", "brier", "paired")
    found = evaluation["systems"]
    return [noisy] + [
        {"system": name, "title": title, "macro_f1": found[name]["report"]["macro"]["f1"]}
        | {key: found[name][key] for key in same}
        for name, title in TITLES.items()
        if name in found
    ]


def main_evaluation(evaluation: Json) -> tuple[str, Json]:
    """The model's own figures: on the holdout, or validated where nothing was held out."""
    name = next(name for name in ("assay", *_validated("assay")) if name in evaluation["systems"])
    return name, evaluation["systems"][name]


def labels_evaluation(evaluation: Json) -> str | None:
    """Which figures of the fixed labels there are."""
    return next((name for name in _validated("labels") if name in evaluation["systems"]), None)


def _validated(what: str) -> tuple[str, str]:
    return f"{what}_cross_validated", f"{what}_validated"


def class_facts(run: FinishedRun, noise: Json, evaluation: Json) -> Facts:
    """Of each class: how often its labels are wrong, how well it is found, how many images have it; None for
    what was not measured.
    """
    name, found = main_evaluation(evaluation)
    report, called = found["report"], np.sum(found["report"]["confusion"], axis=0).tolist()
    noisy, corrected = (_count(labels, len(run.titles)) for labels in (run.noisy, run.proposed))
    rows = [
        {
            "name": title,
            "noisy": noisy[i],
            "corrected": corrected[i],
            "wrong": noise["wrong_share_by_class"][i],
            **_scores(report["classes"][i], called[i]),
        }
        for i, title in enumerate(run.titles)
    ]
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: (row["f1"] is None, row["f1"]))[:MOST_ROWS]
    return {"source": found["source"], "of": TITLES[name], "n": found["n"], "rows": rows}


def _scores(scores: Json, called: int) -> Facts:
    """Those of a class; a share of nothing, which evaluation.json has as 0, is None.

    Parameters
    ----------
    called : images that were predicted to be of it
    """
    measured = scores["support"] > 0
    known = {"precision": measured and called > 0, "recall": measured, "f1": measured, "support": True}
    return {key: scores[key] if is_known else None for key, is_known in known.items()}


def _count(labels: np.ndarray, k: int) -> list[int]:
    known = labels[labels != UNKNOWN]
    counts: list[int] = np.bincount(known, minlength=k).tolist()
    return counts


def confusion_facts(noise: Json, evaluation: Json, titles: Sequence[str]) -> list[Facts]:
    """Given, fixed and predicted labels against the trusted ones."""
    found = evaluation["systems"]
    name, main = main_evaluation(evaluation)
    tables = [
        ("Given against trusted labels", "noisy", "trusted images that were not held out", noise["counts"])
    ]
    labels = labels_evaluation(evaluation)
    if labels is not None:
        source, counts = found[labels]["source"], found[labels]["report"]["confusion"]
        tables.append(("Fixed against trusted labels", "corrected", source, counts))
    title, counts = f"{TITLES[name]}: predicted against trusted labels", main["report"]["confusion"]
    tables.append((title, "predicted", main["source"], counts))
    return [_confusion(*table, titles) for table in tables]


def _confusion(title: str, columns: str, source: str, rows: list[list[int]], titles: Sequence[str]) -> Facts:
    counts = np.array(rows, dtype=np.int64)
    names = [cut(name, 40) for name in titles]
    return {
        "title": title,
        "columns": columns,
        "source": source,
        "n": int(counts.sum()),
        "counts": rows,
        "words": describe_confusion(counts, names, "trusted", columns),
        "largest": [
            {"trusted": titles[row], columns: titles[column], "count": rows[row][column]}
            for row, column in largest_cells(counts)
        ],
    }


def curve_facts(evaluation: Json) -> list[Facts]:
    """Reliability and risk by coverage, of the model and of the fixed labels; empty if none was kept."""
    found = (_curve(name, evaluation["systems"][name]) for name in _curved(evaluation))
    return [curve for curve in found if curve["reliability"]]


def _curved(evaluation: Json) -> Iterator[str]:
    yield main_evaluation(evaluation)[0]
    labels = labels_evaluation(evaluation)
    if labels is not None:
        yield labels


def _curve(name: str, found: Json) -> Facts:
    same = {key: found[key] for key in ("source", "n", "calibration_error")}
    kept = {key: found.get(key, []) for key in ("reliability", "risk_coverage")}
    return {"system": name, "title": TITLES[name], **same, **kept}


def comparison_facts(record: Json, run: Json) -> tuple[Facts | None, list[str]]:
    """The rows of a finished comparison in the same folder, and what a reader must know of them; beside it
    sentences that say what is left out.

    None where it was made on other data or another holdout than the run: its figures are of other images.
    The row of ``assay`` is left out where it is of a run with other settings, which was there before.

    Parameters
    ----------
    record, run : compare.json and run.json
    """
    if record.get("status") != "done":
        return None, []
    if _judged_by(record) != _judged_by(run):
        return None, ["compare.json is left out: it was made on other data, or another holdout"]
    rows = record["rows"]
    differing = [word for row in rows if row["system"] == "assay" for word in _differing(record, row, run)]
    left_out = []
    if differing:
        rows = [row for row in rows if row["system"] != "assay"]
        left_out = [
            f"Assay is left out of the comparison: its row is of another run ({'; '.join(differing)}); give "
            "assay compare again with the settings of this one and --overwrite"
        ]
    if not rows:
        return None, left_out
    of_rows = {
        "rows": rows,
        "notes": notes({**record, "rows": rows}),
        "holdout_evaluations": record["holdout_evaluations"],
    }
    return of_rows, left_out


def _judged_by(record: Json) -> tuple[object, ...]:
    """What decides which images figures are of."""
    drawn = ("holdout", "holdout_split", "holdout_version", "seed")
    data, settings = record.get("data", {}), record.get("settings", {})
    return data.get("labels"), *(settings.get(name) for name in drawn)


def _differing(record: Json, row: Json, run: Json) -> list[str]:
    """In what the run of a comparison's row differs from the one that is there now, in words."""
    settings, backbone = run["settings"], run["backbone"]
    # The backbone in compare.json is that of the other recipes; whose figures are carried over changes none.
    shared = {name: settings[name] for name in settings if name not in ("backbone", "size", "figures_from")}
    now = shared | {"backbone": backbone["name"], "size": backbone["size"]}
    then = {name: record["settings"].get(name) for name in shared}
    then |= {name: row["facts"].get(name, now[name]) for name in ("backbone", "size")}
    return differences({"settings": then, "data": record["data"]}, now, run["data"])
