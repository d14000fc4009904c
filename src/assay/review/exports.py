"""Decisions as files, for the page and for the command line."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from assay.data.decision_files import write_csv, write_label_studio
from assay.data.write_rows import write_rows
from assay.review.desk import Desk
from assay.types import UNKNOWN

FILES = {
    "decisions.csv": "text/csv; charset=utf-8",
    "label-studio.json": "application/json",
    "corrected.csv": "text/csv; charset=utf-8",
}


def export(desk: Desk, name: str) -> tuple[bytes, str] | None:
    """One of ``FILES`` and its media type; None of any other name."""
    if name not in FILES:
        return None
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        if name == "decisions.csv":
            write_csv(file, desk.store.states)
        elif name == "label-studio.json":
            write_label_studio(file, desk.store.states)
        else:
            write_rows(file, ("file_name", "label", "source"), corrected_columns(desk))
        return file.read_bytes(), FILES[name]


def corrected_columns(desk: Desk) -> list[list[str]]:
    """A label for every image and where it is from: the trusted labels, a person, or the run's fix.

    Held-out images have their trusted label too, and what was decided before an image had one is past. Where
    the run is unsure the given label stays, with the source ``unsure``; skipped images have none.
    """
    labels, sources = [], []
    trusted = {*np.flatnonzero(desk.run.trusted != UNKNOWN).tolist(), *desk.run.held_out_labels}
    trusted -= {*desk.run.decided}
    for row, action in enumerate(desk.run.actions):
        decided = desk.state(row).label
        if decided is not None and row not in trusted:
            label, source = decided, "decided"
        elif action != "skipped" and row in desk.run.held_out_labels:
            label, source = desk.run.labels[desk.run.held_out_labels[row]], "trusted"
        elif action == "unsure":
            label, source = desk.run.label(int(desk.run.given[row])) or "", action
        else:
            label, source = desk.run.label(int(desk.run.proposed[row])) or "", action
        labels.append(label)
        sources.append(source)
    return [list(desk.run.names), labels, sources]


def corrected_labels(desk: Desk) -> dict[str, str]:
    """Image name -> its corrected label, where there is one; for the input's own label file."""
    names, labels, _ = corrected_columns(desk)
    return {name: label for name, label in zip(names, labels, strict=True) if label}
