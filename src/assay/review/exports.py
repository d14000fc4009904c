"""Decisions as files, for the page and for the command line."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from assay.data.decisions import write_csv, write_label_studio
from assay.data.write import write_rows
from assay.review.session import ReviewSession
from assay.types import UNKNOWN

FILES = {
    "decisions.csv": "text/csv; charset=utf-8",
    "label-studio.json": "application/json",
    "corrected.csv": "text/csv; charset=utf-8",
}


def export(session: ReviewSession, name: str) -> tuple[bytes, str] | None:
    """One of ``FILES`` and its media type; None of any other name."""
    if name not in FILES:
        return None
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        if name == "decisions.csv":
            write_csv(file, session.store.states)
        elif name == "label-studio.json":
            write_label_studio(file, session.store.states)
        else:
            write_rows(file, ("file", "label", "source"), corrected_columns(session))
        return file.read_bytes(), FILES[name]


def corrected_columns(session: ReviewSession) -> list[list[str]]:
    """A label for every image and where it is from: the trusted labels, a person, or the run's fix.

    Held-out images have their trusted label too, and what was decided before an image had one is past. Where
    the run is unsure the given label stays, with the source ``unsure``; skipped images have none.
    """
    labels, sources = [], []
    trusted = {*np.flatnonzero(session.run.trusted != UNKNOWN).tolist(), *session.run.held_out_labels}
    trusted -= {*session.run.decided}
    for row, action in enumerate(session.run.actions):
        decided = session.state(row).label
        if decided is not None and row not in trusted:
            label, source = decided, "decided"
        elif action != "skipped" and row in session.run.held_out_labels:
            label, source = session.run.labels[session.run.held_out_labels[row]], "trusted"
        elif action == "unsure":
            label, source = session.run.label(int(session.run.noisy[row])) or "", action
        else:
            label, source = session.run.label(int(session.run.proposed[row])) or "", action
        labels.append(label)
        sources.append(source)
    return [list(session.run.names), labels, sources]


def corrected_labels(session: ReviewSession) -> dict[str, str]:
    """Image name -> its corrected label, where there is one; for the input's own label file."""
    names, labels, _ = corrected_columns(session)
    return {name: label for name, label in zip(names, labels, strict=True) if label}
