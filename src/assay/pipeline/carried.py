"""The figures of a model that learned from everything: those of its partial twin, marked as such.

A model that learned from all trusted images has none left to be measured on. What the same recipe
reached with a part of them held out is the best that can be said of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.errors import UsageError
from assay.evaluate import Evaluation, Source
from assay.pipeline.folder import RunFolder
from assay.pipeline.outputs import read_facts
from assay.pipeline.record import differences

CARRIED: Source = "holdout of the partial model"

FREE = dict.fromkeys(("holdout", "holdout_split", "holdout_version", "figures_from"))
"""Settings in which a model and its partial twin may differ."""


def check_apart_from(place: Path, out: Path) -> None:
    """UsageError if the figures are those of the very folder that is to be written."""
    if place.resolve() == out.resolve():
        raise UsageError(f"--figures-from {place}: expected another folder than --out, where this run goes")


def partial_run(place: Path, settings: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """run.json of the run at ``place``, if its figures may stand for a run with these settings and data.

    Raises
    ------
    UsageError : no finished run, one with other settings or data, one without a holdout
    """
    record = RunFolder(place).record()
    if record.get("status") != "done":
        raise UsageError(f"--figures-from {place}: expected the folder of a finished run with a holdout")
    check_twin(place, record, settings, data)
    return record


def check_twin(
    place: Path, record: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """UsageError if ``record`` has other settings or data, the holdout aside, or held nothing out."""
    ours = {**settings, **FREE}
    differing = differences({**record, "settings": {**record["settings"], **FREE}}, ours, data)
    if differing:
        raise UsageError(
            f"--figures-from {place}: expected the same settings and data but for the holdout, "
            f"got {'; '.join(differing)}"
        )
    if record["settings"]["holdout"] == 0:
        raise UsageError(f"--figures-from {place}: expected a run with a holdout, which it had not")


def carried_figures(place: Path) -> dict[str, Evaluation]:
    """What the run at ``place`` measured on its holdout, marked as carried over."""
    return {
        name: replace(Evaluation.from_json(found), source=CARRIED)
        for name, found in read_facts(place)["systems"].items()
        if found["source"] == "holdout"
    }
