"""The pages as HTML: every word that came with the data is escaped by the templates."""

from pathlib import Path
from typing import Any

from assay.errors import MissingExtraError
from assay.review.exports import FILES
from assay.review.keys import ACTIONS
from assay.review.session import ReviewSession
from assay.text import visible

try:
    import jinja2
except ImportError:
    raise MissingExtraError("jinja2", "web") from None

ACTION_WORDS = {
    "accept": "Accept the proposed label",
    "skip": "Skip this image",
    "undo": "Undo the last decision",
    "next": "Next image, deciding nothing",
    "previous": "Previous image",
    "jump": "Jump to an image",
    "help": "Help",
}


class Pages:
    """Draws the pages of one review."""

    def __init__(self, session: ReviewSession) -> None:
        self._session = session
        loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = jinja2.Environment(
            loader=loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["visible"] = visible

    def review(self, row: int) -> str:
        """The page of one image."""
        return self._draw("review.html", card=self._session.card(row), progress=self._session.progress())

    def card(self, row: int) -> str:
        """The part of that page which changes from image to image."""
        return self._draw("card.html", card=self._session.card(row))

    def grid(self, label: int) -> str:
        """Fifty images of one proposed class."""
        cards, waiting = self._session.grid(label)
        counts = self._session.classes_waiting()
        progress = self._session.progress()
        return self._draw(
            "grid.html", cards=cards, waiting=waiting, label=label, counts=counts, progress=progress
        )

    def keys(self) -> str:
        """The page on which keys are chosen."""
        return self._draw("keys.html", progress=self._session.progress())

    def _draw(self, template: str, **facts: Any) -> str:
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
