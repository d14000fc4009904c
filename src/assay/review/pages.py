"""The pages as HTML, and the files that they offer."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from assay.data.decisions import write_csv, write_label_studio
from assay.data.write import write_rows
from assay.errors import MissingExtraError
from assay.review.keys import ACTIONS
from assay.review.session import ReviewSession
from assay.text import percent, visible
from assay.types import UNKNOWN

FILES = {
    "decisions.csv": "text/csv; charset=utf-8",
    "label-studio.json": "application/json",
    "corrected.csv": "text/csv; charset=utf-8",
}
"""Exports and their media types."""


def page_renderer(session: ReviewSession) -> Callable[..., str]:
    """A function that renders a template with what every page needs, and with what else it is given.

    Raises
    ------
    MissingExtraError : jinja2 is not installed; the exports do without
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "web") from None
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # every word that comes with the data
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"visible": visible, "percent": percent}
    run = session.run

    def render(template: str, **facts: Any) -> str:
        keys = session.keys  # a person may have changed them
        classes = [
            {"index": i, "title": title, "key": keys.get(f"class-{i}", "")}
            for i, title in enumerate(run.titles)
        ]
        return templates.get_template(template).render(
            classes=classes,
            keys=keys,
            actions=[(name, words, keys.get(name, "")) for name, (_, words) in ACTIONS.items()],
            files=list(FILES),
            run_key=run.key,
            run_name=run.folder.resolve().name,
            **facts,
        )

    return render


def export(session: ReviewSession, name: str) -> bytes:
    """The bytes of one of ``FILES``."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        if name == "decisions.csv":
            write_csv(file, session.store.states, excel_safe=session.excel_safe)
        elif name == "label-studio.json":
            write_label_studio(file, session.store.states)
        else:
            columns = corrected_columns(session)
            write_rows(file, ("file", "label", "source"), columns, excel_safe=session.excel_safe)
        return file.read_bytes()


def corrected_columns(session: ReviewSession) -> list[list[str]]:
    """File, label and source of every image: a trusted label, else a decision, else the run's label."""
    run = session.run
    trusted = {*np.flatnonzero(run.trusted != UNKNOWN).tolist(), *run.held_out_labels} - {*run.decided}
    labels, sources = [], []
    for row, action in enumerate(run.actions):
        decided = session.state(row).label
        if decided is not None and row not in trusted:  # a trusted label is newer than the decision
            label, source = decided, "decided" if decided else "outlier"
        elif action != "skipped" and row in run.held_out_labels:  # labels.csv does not have these
            label, source = run.labels[run.held_out_labels[row]], "trusted"
        else:
            # Where the run is unsure, the noisy label stays.
            index = run.noisy[row] if action == "unsure" else run.proposed[row]
            label, source = run.label(int(index)) or "", action
        labels.append(label)
        sources.append(source)
    return [list(run.names), labels, sources]


def corrected_labels(session: ReviewSession) -> dict[str, str]:
    """File -> its corrected label, where there is one."""
    names, labels, _ = corrected_columns(session)
    return {name: label for name, label in zip(names, labels, strict=True) if label}
