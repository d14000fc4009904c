"""The pages as HTML, and the files that they offer."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay.data.decisions import write_csv
from assay.errors import MissingExtraError
from assay.pipeline.labels_out import POLICIES, Picked, final_labels, write_table
from assay.review.keys import ACTIONS
from assay.review.session import ReviewSession
from assay.text import percent, visible

FILES = {
    "decisions.csv": "text/csv; charset=utf-8",
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
        else:
            rows = final_labels(session.run, session.store.path)
            write_table(file, Picked(rows, POLICIES["sure"]), excel_safe=session.excel_safe)
        return file.read_bytes()
