"""The report as one HTML file: it loads nothing, runs nothing, and every name in it is escaped."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay import text
from assay.drawing import data_url, draw_confusion, draw_matrix
from assay.errors import MissingExtraError
from assay.report.charts import accuracy_chart, coverage_chart, reliability_chart
from assay.report.facts import Facts
from assay.report.galleries import Picture

try:
    import jinja2
    from markupsafe import Markup
except ImportError:
    raise MissingExtraError("jinja2", "report") from None

TEMPLATES = Path(__file__).parent / "templates"

MAX_IN_TABLE = 16
"""Classes up to which a matrix is a table with all its numbers; a wider one does not fit a page."""

MAX_DRAWINGS = 750_000
"""Bytes of the drawings of a comparison; one that does not fit is left out."""


def draw_page(
    facts: Facts, pictures: Mapping[int, Picture | str], comparison: Mapping[str, Any] | None = None
) -> str:
    """The whole page.

    Parameters
    ----------
    facts : see ``facts.gather``
    pictures : row -> thumbnail, for the galleries
    comparison : ``tables`` (captions, headers, rows of cells) and ``drawings`` (title, SVG) of other systems
    """
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "gibibytes": text.gibibytes,
        "interval": text.interval,
        "level": level,
        "megabytes": text.megabytes,
        "name": text.cut,
        "one_line": text.one_line,
        "p_value": text.p_value,
        "percent": text.percent,
        "range_of": lambda found: text.percent_range(found["low"], found["high"]),
        "seconds": text.seconds,
        # Files of a run have four decimals, so values above 99.9 % cannot be distinguished.
        "sure": lambda confidence: "> 99.9 %" if confidence > 0.999 else text.percent(confidence),
    }
    environment.globals["counted"] = text.counted
    drawings, left = [], MAX_DRAWINGS
    for title, drawn in comparison["drawings"] if comparison else ():
        if len(drawn) <= left:
            left -= len(drawn)
            drawings.append(_image(drawn, title))
    return environment.get_template("report.html").render(
        **facts,
        style=Markup(style),  # noqa: S704  # our own style sheet
        policy=policy(style),
        pictures=pictures,
        tables=comparison["tables"] if comparison else (),
        drawings=drawings,
        charts=_charts(facts),
        matrices=_matrices(facts),
        in_table=len(facts["classes"]) <= MAX_IN_TABLE,
    )


def policy(style: str) -> str:
    """The page's Content-Security-Policy: images inside the page, this very style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def level(share: float) -> str:
    """CSS class of a cell by its share: ``h0`` to ``h10``; a share above 0.5 % is never ``h0``."""
    return f"h{max(round(10 * share), int(share > 0.005))}"


def _image(drawn: str, words: str) -> Mapping[str, str]:
    """An SVG as an image of the page: nothing in it can run or load anything."""
    return {"address": data_url(drawn.encode("utf-8"), "image/svg+xml"), "words": words}


def _charts(facts: Facts) -> Mapping[str, Any]:
    rows = [row for row in facts["figures"] if not row["system"].endswith("_leaks_included")]
    ends = {"estimate": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    rows += [
        {"title": row["title"], "accuracy": {end: row[key] for end, key in ends.items()}}
        for row in (facts["comparison"]["rows"] if facts["comparison"] else ())
        if row["accuracy"] is not None and row["system"] not in ("assay", "histogram")
    ]
    curves = facts["curves"]
    return {
        "accuracy": _image(*accuracy_chart(rows)),
        "reliability": [_image(*reliability_chart(one)) for one in curves],
        "coverage": _image(*coverage_chart(curves)) if curves else None,
    }


def _matrices(facts: Facts) -> list[Mapping[str, str]]:
    """Heat maps of the transition and of each confusion, where a table would have too many columns."""
    names = facts["classes"]
    if len(names) <= MAX_IN_TABLE:
        return []
    noise = facts["noise"]
    title, words = "P(noisy label | true class)", text.one_line(noise["summary"])
    transition = np.asarray(noise["transition"], dtype=float)
    sides = {"rows": "true", "columns": "noisy"}
    drawn = [_image(draw_matrix(transition, names, title=title, description=words, **sides), words)]
    for one in facts["confusions"]:
        counts = np.asarray(one["counts"])
        picture = draw_confusion(counts, names, title=one["title"], columns=one["columns"])
        drawn.append(_image(picture, one["words"]))
    return drawn
