"""The pages as HTML, and the files that they offer. Templates escape every word that comes with the data."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from assay.data.decisions import write_csv, write_label_studio
from assay.data.write import write_rows
from assay.errors import MissingExtraError
from assay.review.keys import ACTIONS
from assay.review.session import ReviewSession
from assay.text import visible
from assay.types import UNKNOWN

ACTION_WORDS = {
    "accept": "Accept the proposed label",
    "skip": "Skip this image",
    "undo": "Undo the last decision",
    "next": "Next image, without a decision",
    "previous": "Previous image",
    "jump": "Jump to an image",
    "help": "Help",
}

FILES = {
    "decisions.csv": "text/csv; charset=utf-8",
    "label-studio.json": "application/json",
    "corrected.csv": "text/csv; charset=utf-8",
}
"""Exports and their media types."""


class Pages:
    """Renders the pages of one review.

    Raises
    ------
    MissingExtraError : jinja2 is not installed; the exports do without
    """

    def __init__(self, session: ReviewSession) -> None:
        try:
            import jinja2
        except ImportError:
            raise MissingExtraError("jinja2", "web") from None
        self._session = session
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["visible"] = visible

    def review(self, row: int) -> str:
        """The page of one image."""
        return self._render("review.html", card=self._session.card(row), progress=self._session.progress())

    def card(self, row: int) -> str:
        """The part of that page which differs between images."""
        return self._render("card.html", card=self._session.card(row))

    def grid(self, label: int) -> str:
        """Fifty images of one proposed class."""
        session = self._session
        cards, waiting = session.grid(label)
        facts = {"cards": cards, "waiting": waiting, "label": label, "counts": session.n_waiting()}
        return self._render("grid.html", **facts, progress=session.progress())

    def keys(self) -> str:
        """The page with the keys and the files."""
        return self._render("keys.html", progress=self._session.progress())

    def _render(self, template: str, **facts: Any) -> str:
        session = self._session
        classes = [
            {"index": i, "title": title, "key": session.keys.get(f"class-{i}", "")}
            for i, title in enumerate(session.run.titles)
        ]
        return self._templates.get_template(template).render(
            classes=classes,
            keys=session.keys,
            actions=[(name, ACTION_WORDS[name], session.keys.get(name, "")) for name in ACTIONS],
            files=list(FILES),
            run_key=session.run.key,
            run_name=session.run.folder.resolve().name,
            **facts,
        )


def export(session: ReviewSession, name: str) -> bytes:
    """The bytes of one of ``FILES``."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        if name == "decisions.csv":
            write_csv(file, session.store.states)
        elif name == "label-studio.json":
            write_label_studio(file, session.store.states)
        else:
            write_rows(file, ("file", "label", "source"), corrected_columns(session))
        return file.read_bytes()


def corrected_columns(session: ReviewSession) -> list[list[str]]:
    """File, label and source of every image: a trusted label, else a decision, else the run's label.

    Trusted labels of the holdout count too. Where the run is unsure the noisy label stays, with the source
    ``unsure``; skipped images have no label.
    """
    run = session.run
    trusted = {*np.flatnonzero(run.trusted != UNKNOWN).tolist(), *run.held_out_labels} - {*run.decided}
    labels, sources = [], []
    for row, action in enumerate(run.actions):
        decided = session.state(row).label
        if decided is not None and row not in trusted:  # a trusted label is newer than the decision
            label, source = decided, "decided"
        elif action != "skipped" and row in run.held_out_labels:
            label, source = run.labels[run.held_out_labels[row]], "trusted"
        else:
            index = run.noisy[row] if action == "unsure" else run.proposed[row]
            label, source = run.label(int(index)) or "", action
        labels.append(label)
        sources.append(source)
    return [list(run.names), labels, sources]


def corrected_labels(session: ReviewSession) -> dict[str, str]:
    """File -> its corrected label, where there is one."""
    names, labels, _ = corrected_columns(session)
    return {name: label for name, label in zip(names, labels, strict=True) if label}
