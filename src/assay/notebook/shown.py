"""A finished comparison as the report of the run in the same folder shows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.notebook.compare_folder import CompareFolder
from assay.notebook.compare_table import COST, QUALITY, cells, notes
from assay.notebook.listing import SYSTEMS, TITLES
from assay.pipeline.folder import RunFolder, differences

Json = Mapping[str, Any]


def comparison_of(folder: Path) -> tuple[Json | None, list[str]]:
    """What ``write_report`` takes as its comparison, and notes on what is left out of it.

    None where there is no finished comparison, or where it was made on other data or another holdout than the
    run: its figures are of other images. The row of ``assay`` is left out where it is of an earlier run.
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
    drawings = [
        (f"{TITLES[name]}: predicted against trusted labels", file.read_text(encoding="utf-8"))
        for name, file in files.items()
        if file.is_file()
    ]
    said = notes({**record, "rows": rows})
    evaluations = record["holdout_evaluations"]
    found = {"rows": rows, "notes": said, "holdout_evaluations": evaluations}
    return found | {"tables": tables, "drawings": drawings}, left_out


def _measured_on(record: Json) -> tuple[object, ...]:
    """What decides which images figures are of."""
    drawn = ("holdout", "holdout_split", "holdout_version", "seed")
    data, settings = record.get("data", {}), record.get("settings", {})
    return data.get("labels"), *(settings.get(name) for name in drawn)


def _differing(record: Json, row: Json, run: Json) -> list[str]:
    """How the run of a comparison's row differs from the one that is there now, in words."""
    settings, backbone = run["settings"], run["backbone"]
    # The backbone in compare.json is that of the other systems.
    shared = {name: settings[name] for name in settings if name not in ("backbone", "size", "figures_from")}
    now = shared | {"backbone": backbone["name"], "size": backbone["size"]}
    then = {name: record["settings"].get(name) for name in shared}
    then |= {name: row["facts"].get(name, now[name]) for name in ("backbone", "size")}
    return differences({"settings": then, "data": record["data"]}, now, run["data"])
