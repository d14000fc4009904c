"""Models that learned from everything beside their partial twins: whose figures are carried over."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.errors import UsageError
from assay.evaluate import Source
from assay.notebook.compare_folder import CompareFolder
from assay.notebook.compare_judge import FIGURES
from assay.notebook.compare_options import CompareOptions
from assay.pipeline.folder import differences

CARRIED: Source = "holdout of the partial model"

FREE = dict.fromkeys(("holdout", "holdout_split", "holdout_version", "figures_from"))
"""Settings in which a full comparison and the partial one may differ."""


def twin_rows(
    options: CompareOptions, settings: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Recipe -> the figures of its partial model, marked as carried over; empty if none were asked for.

    Raises
    ------
    UsageError : no finished comparison there, one with other settings or data, one without a holdout
    """
    place = options.figures_from
    if place is None:
        return {}
    record = CompareFolder(place).record()
    if record.get("status") != "done":
        raise UsageError(
            f"--figures-from {place}: expected the folder of a finished comparison with a holdout"
        )
    differing = differences(
        {**record, "settings": {**record["settings"], **FREE}}, {**settings, **FREE}, data
    )
    if differing:
        raise UsageError(
            f"--figures-from {place}: expected the same settings and data but for the holdout, "
            f"got {'; '.join(differing)}"
        )
    if record["settings"]["holdout"] == 0:
        raise UsageError(f"--figures-from {place}: expected a comparison with a holdout, which it had not")
    return {
        row["system"]: {name: row[name] for name in FIGURES} | {"source": CARRIED}
        for row in record["rows"]
        if row["source"] == "holdout"
    }


def check_apart_from(place: Path, out: Path) -> None:
    """UsageError if the figures are those of the very folder that is to be written."""
    if place.resolve() == out.resolve():
        raise UsageError(f"--figures-from {place}: expected another folder than --out, where this run goes")
