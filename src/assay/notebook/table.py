"""The rows of a comparison as CSV, as Markdown, as the card of each model, and as part of a report."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.data.write import write_bytes_atomic, write_json
from assay.notebook.folder import CompareFolder
from assay.notebook.systems import SYSTEMS, TITLES
from assay.pipeline.card import limits
from assay.pipeline.folder import RunFolder, differences
from assay.predict.model import Model, write_manifest
from assay.text import counted, p_value, percent, percent_range

Row = Mapping[str, Any]
"""A row of compare.json."""

Record = Mapping[str, Any]
"""compare.json or run.json."""

RIVALS = {"against_baseline": "histogram", "against_model_2": "model-2"}
"""Column -> the system with which every other one is compared in it."""

ABSENT = "–"

CSV_COLUMNS = (
    "system",
    "title",
    "status",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "n",
    "macro_f1",
    "source",
    *(f"{rival}{part}" for rival in RIVALS for part in ("", "_low", "_high", "_p")),
    "train_seconds",
    "milliseconds_alone",
    "milliseconds_in_batches",
    "peak_memory_bytes",
    "model_bytes",
    "published",
    "error",
)

Columns = tuple[tuple[str, Callable[[Row], str]], ...]
"""Header and the cell of a row."""

QUALITY: Columns = (
    ("accuracy", lambda row: percent(row["accuracy"])),
    ("95 % interval", lambda row: percent_range(row["accuracy_low"], row["accuracy_high"])),
    ("macro F1", lambda row: f"{row['macro_f1']:.3f}"),
    ("against Baseline", lambda row: _points(row["against_baseline"])),
    ("McNemar p", lambda row: p_value(row["against_baseline"]["p_value"])),
    ("against Model II", lambda row: _points(row["against_model_2"])),
    ("McNemar p", lambda row: p_value(row["against_model_2"]["p_value"])),
)

COST: Columns = (
    ("train, s", lambda row: _number(row["train_seconds"], 10.0, 1, 0)),
    ("one image alone, ms", lambda row: _number(row["milliseconds_alone"], 1.0, 2, 1)),
    ("in batches, ms", lambda row: _number(row["milliseconds_in_batches"], 1.0, 2, 1)),
    ("peak memory, GiB", lambda row: f"{row['peak_memory_bytes'] / 2**30:.2f}"),
    ("on disk, MB", lambda row: f"{row['model_bytes'] / 1e6:.1f}"),
)


def _points(paired: Mapping[str, Any]) -> str:
    """``+12.3``: percentage points above the rival."""
    return f"{100 * paired['difference']['estimate']:+.1f}"


def _number(value: float, limit: float, below: int, above: int) -> str:
    """``0.4`` or ``1,907``: with fewer decimals from ``limit`` on."""
    return f"{value:,.{below if value < limit else above}f}"


def cells(row: Row, columns: Columns) -> list[str]:
    """The cells of a row; ``ABSENT`` for what was not measured."""
    found = []
    for _, cell in columns:
        try:
            found.append(cell(row))
        except TypeError:  # a None among the values
            found.append(ABSENT)
    return found


def csv_columns(rows: Sequence[Row]) -> list[list[Any]]:
    """The columns of compare.csv, in the order of ``CSV_COLUMNS``: the numbers as they are."""
    flat = []
    for row in rows:
        one = dict(row)
        for column in RIVALS:
            paired = row[column] or {"difference": {}}
            for part, name in (("", "estimate"), ("_low", "low"), ("_high", "high")):
                one[f"{column}{part}"] = paired["difference"].get(name)
            one[f"{column}_p"] = paired.get("p_value")
        flat.append(one)
    return [[one[name] for one in flat] for name in CSV_COLUMNS]


def markdown(record: Record) -> str:
    """compare.md: the whole table, and notes on it."""
    columns = (*QUALITY, *COST)
    lines = [
        f"| | {' | '.join(header for header, _ in columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(f"| {row['title']} | {' | '.join(cells(row, columns))} |" for row in record["rows"]),
    ]
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(record))]).rstrip() + "\n"


def notes(record: Record) -> list[str]:
    """What a reader must know of the table, line by line."""
    rows = record["rows"]
    measured = [row for row in rows if row["n"]]
    if measured:
        basis = f"Accuracy on {measured[0]['n']:,} holdout images, the same for all systems"
        if leaked := len(record["left_out"]):
            is_one = "is a near-duplicate of a training image" if leaked == 1 else ""
            why = is_one or "are near-duplicates of training images"
            basis += f"; {counted(leaked, 'holdout image')} {why}, excluded from the evaluation"
        found = [f"{basis}."]
    else:
        found = ["Accuracy is not measured: there are no holdout images to measure it on."]
    if record["settings"]["as_published"]:
        found.append("As published: with the notebook's defects that change results.")
    cached = [row["title"] for row in rows if row["facts"].get("features_computed") == 0]
    if cached:
        found.append(f"Trained on features that were in the cache already: {', '.join(cached)}.")
    return found + [f"{row['title']} failed: {row['error']}" for row in rows if row["status"] == "failed"]


def comparison_card(model: Model, row: Row | None) -> str:
    """README.md of a system's model; ``row`` is None before it is measured."""
    system = str(model.facts["system"])
    if row is None:
        measured = "Not measured yet: the comparison that it belongs to is not complete."
    elif row["accuracy"] is None:
        measured = "No holdout image was usable: the accuracy of this model is not measured."
    else:
        measured = (
            f"Accuracy {row['accuracy']:.4f} ({row['accuracy_low']:.4f} to {row['accuracy_high']:.4f}, "
            f"95 % interval, n = {row['n']:,}), macro F1 {row['macro_f1']:.4f}; {row['source']}."
        )
    published = " as published, with the notebook's defects" if model.facts.get("published") else ""
    return "\n".join(
        [
            f"# {TITLES[system]}: image classifier, {len(model.labels)} classes",
            "",
            f"System `{system}` of a comparison{published}. "
            f"Network `{model.architecture}` at {model.size} px.",
            "",
            "## Measured",
            "",
            measured,
            limits(measured=False),
        ]
    )


def write_figures(folder: Path, model: Model, row: Row) -> None:
    """Put the figures of a saved model into its config.json and its card; its weights stay."""
    names = ("n", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "source")
    figures = {str(model.facts["system"]): {name: row[name] for name in names}}
    config, place = json.loads((folder / "config.json").read_bytes()), folder / "README.md"
    card = comparison_card(model, row).encode("utf-8", "surrogateescape")
    if config["assay"].get("figures") == figures and place.read_bytes() == card:
        return  # a folder that is not touched cannot be left half written
    config["assay"]["figures"] = figures
    write_json(folder / "config.json", config)
    write_bytes_atomic(place, card)
    write_manifest(folder)


def comparison_of(folder: Path) -> tuple[Record | None, list[str]]:
    """A complete comparison as ``write_report`` shows it beside the run in the same folder, and notes.

    None where there is no complete comparison, or where it was made on other data or another holdout than
    the run: its figures are of other images. The row of ``assay`` is left out where it is of an earlier run.
    """
    record, run = CompareFolder(folder).record(), RunFolder(folder).record()
    if record.get("status") != "done" or run.get("status") != "done":
        return None, []
    if _measured_on(record) != _measured_on(run):
        return None, ["compare.json is left out: it was made on other data, or another holdout"]
    rows, left_out = record["rows"], []
    differing = [word for row in rows if row["system"] == "assay" for word in _differing(record, row, run)]
    if differing:
        rows = [row for row in rows if row["system"] != "assay"]
        left_out = [
            f"Assay is left out of the comparison: its row is of another run ({'; '.join(differing)}); "
            "repeat assay compare with the settings of this run and --overwrite"
        ]
    if not rows:
        return None, left_out
    tables = [
        {
            "caption": caption,
            "headers": [header for header, _ in columns],
            "rows": [{"title": row["title"], "cells": cells(row, columns)} for row in rows],
        }
        for caption, columns in (("How good each system is", QUALITY), ("What each system costs", COST))
    ]
    files = {name: folder / "pictures" / f"confusion_{name}.svg" for name in SYSTEMS}
    found = {
        "rows": rows,
        "notes": notes({**record, "rows": rows}),
        "holdout_evaluations": record["holdout_evaluations"],
        "tables": tables,
        "drawings": [
            (f"{TITLES[name]}: predicted against trusted labels", file.read_text(encoding="utf-8"))
            for name, file in files.items()
            if file.is_file()
        ],
    }
    return found, left_out


def _measured_on(record: Record) -> tuple[object, ...]:
    """What decides which images the figures are of."""
    drawn = ("holdout", "holdout_split", "holdout_version", "seed")
    data, settings = record.get("data", {}), record.get("settings", {})
    return data.get("labels"), *(settings.get(name) for name in drawn)


def _differing(record: Record, row: Row, run: Record) -> list[str]:
    """How the run of a comparison's row differs from the one that is there now, in words."""
    settings, backbone = run["settings"], run["backbone"]
    # The backbone in compare.json is that of the other systems.
    shared = {name: settings[name] for name in settings if name not in ("backbone", "size")}
    now = shared | {"backbone": backbone["name"], "size": backbone["size"]}
    then = {name: record["settings"].get(name) for name in shared}
    then |= {name: row["facts"].get(name, now[name]) for name in ("backbone", "size")}
    return differences({"settings": then, "data": record["data"]}, now, run["data"])
