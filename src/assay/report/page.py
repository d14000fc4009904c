"""The report as one HTML file: it asks nobody for anything, runs nothing, and every name in it is escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from assay import text
from assay.errors import MissingExtraError
from assay.notebook.compare_table import COST, QUALITY, cells
from assay.report import words
from assay.report.charts import accuracy_chart, coverage_chart, reliability_chart
from assay.report.drawings import Drawing
from assay.report.galleries import Picture
from assay.report.heat import MOST_IN_TABLE, heat_picture, level, shares
from assay.report.noise_facts import Facts

try:
    import jinja2
    from markupsafe import Markup
except ImportError:
    raise MissingExtraError("jinja2", "report") from None

TEMPLATES = Path(__file__).parent / "templates"


def draw_page(facts: Facts, pictures: Mapping[int, Picture | str], drawings: Sequence[Drawing]) -> str:
    """The whole page.

    Parameters
    ----------
    facts : see ``facts.gather``
    pictures : row -> thumbnail, for the galleries
    drawings : what ``facts["drawings"]`` tells of
    """
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html")
        .render(
            **facts,
            style=_own(style),
            policy=policy(style),
            pictures=pictures,
            addresses=[drawing.address for drawing in drawings],
            charts=_charts(facts),
            heats=_heats(facts),
            in_table=len(facts["classes"]) <= MOST_IN_TABLE,
            compare_columns={"quality": QUALITY, "cost": COST},
        )
    )


def _own(text: str) -> Markup:
    """Our own style sheet, or SVG in which every name was escaped as it was drawn."""
    return Markup(text)  # noqa: S704  # the one place that tells the templates so


def policy(style: str) -> str:
    """The page's Content-Security-Policy: images inside the page, this very style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cells": cells,
        "count": "{:,}".format,
        "gibibytes": text.gibibytes,
        "interval": text.interval,
        "level": level,
        "megabytes": text.megabytes,
        "name": text.cut,
        "one_line": text.one_line,
        "p_value": text.p_value,
        "p_words": text.p_equals,
        "percent": text.percent,
        "range_of": words.range_of,
        "seconds": text.seconds,
        "sure": words.sure,
    }
    environment.globals["counted"] = text.counted
    return environment


def _charts(facts: Facts) -> Mapping[str, Markup | list[Markup]]:
    """What the page shows as curves."""
    rows = [row for row in facts["figures"] if not row["system"].endswith("_leaks_included")]
    rows += _rivals(facts)
    curves = facts["curves"]
    return {
        "accuracy": _own(accuracy_chart(rows)),
        "reliability": [_own(reliability_chart(f"calibration-{i}", one)) for i, one in enumerate(curves)],
        "coverage": _own(coverage_chart(curves) if curves else ""),
    }


def _rivals(facts: Facts) -> list[Facts]:
    """The other recipes of a comparison, each with its accuracy as an interval."""
    rows = facts["comparison"]["rows"] if facts["comparison"] else ()
    ends = {"estimate": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    return [
        {"title": row["title"], "accuracy": {end: row[key] for end, key in ends.items()}}
        for row in rows
        if row["accuracy"] is not None and row["system"] not in ("assay", "histogram")
    ]


def _heats(facts: Facts) -> list[Markup]:
    """Pictures of the transition and of each confusion, for so many classes that no table would do."""
    titles = facts["classes"]
    if len(titles) <= MOST_IN_TABLE:
        return []
    drawn = partial(heat_picture, titles=titles)
    noise = facts["noise"]
    found = [
        drawn(
            "transition",
            shares(noise["transition"]),
            title="P(given | trusted)",
            description=text.one_line(noise["summary"]),
            columns="noisy",
        )
    ]
    found += [
        drawn(
            f"confusion-{i}",
            shares(one["counts"]),
            title=one["title"],
            description=one["words"],
            columns=one["columns"],
        )
        for i, one in enumerate(facts["confusions"])
    ]
    return [_own(one) for one in found]
