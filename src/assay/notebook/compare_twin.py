"""Models that learned from everything beside their partial twins: whose figures are carried over."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.errors import UsageError
from assay.notebook.compare_folder import CompareFolder
from assay.notebook.compare_judge import FIGURES
from assay.notebook.compare_options import CompareOptions
from assay.pipeline.carried import CARRIED, check_twin


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
    check_twin(place, record, settings, data)
    return {
        row["system"]: {name: row[name] for name in FIGURES} | {"source": CARRIED}
        for row in record["rows"]
        if row["source"] == "holdout"
    }


def assay_options(options: CompareOptions) -> CompareOptions:
    """The same for the recipe ``assay``, whose run carries its figures over itself."""
    place: Path | None = options.figures_from
    has_run = place is not None and CompareFolder(place).run.record().get("status") == "done"
    return replace(options, run=replace(options.run, figures_from=place if has_run else None))
