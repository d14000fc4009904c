"""The report as one HTML file with its charts: it loads nothing, and every name is escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay import text
from assay.drawing import COLOURS, FAINT, INK, PAPER, data_url, draw_confusion, draw_matrix, short, svg
from assay.errors import MissingExtraError
from assay.pipeline.shown import TITLES
from assay.report.facts import Facts, Json, Picture

try:
    import jinja2
    from markupsafe import Markup
except ImportError:
    raise MissingExtraError("jinja2", "report") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"

SECTIONS = {
    "summary": "Summary",
    "noise": "How wrong the labels are",
    "accuracy": "How accurate it is",
    "classes": "Class by class",
    "confusion": "Which classes are confused",
    "confidence": "How well confidence matches accuracy",
    "changes": "What was changed",
    "annotators": "Who labelled",
    "audit": "What else is wrong with the images",
    "cost": "What it cost",
    "skipped": "Images that could not be used",
    "warnings": "Warnings",
    "reproduce": "How to reproduce it",
}
"""Template of each part -> its heading, which is its entry in the contents too."""

OPTIONAL = ("annotators", "audit")
"""Parts that not every run has."""

MAX_IN_TABLE = 16
"""Classes up to which a matrix is a table with all its numbers; a wider one does not fit a page."""

MAX_DRAWINGS = 750_000
"""Bytes of the drawings of a comparison; one that does not fit is left out."""

DARK_COLOURS = ("#6cb8e6", "#ff9d5c")

WIDTH = 4.7
"""Inches: 340 points, about the pixels of a phone, so 10-point text stays readable there."""

DARK = "@media screen and (prefers-color-scheme: dark) {{{}}}".format(
    "".join(
        f'[style*="{part}: {old}"] {{{part}: {new} !important}}'
        for part in ("fill", "stroke")
        for old, new in (
            (PAPER, "#1f2226"),
            (INK, "#eceef0"),
            (FAINT, "#474d54"),
            *zip(COLOURS, DARK_COLOURS, strict=False),
        )
    )
    + "text {fill: #eceef0}"
)
"""Style of a chart on a dark page: its colours in place of those that matplotlib wrote."""

STYLES: tuple[dict[str, Any], ...] = (
    {"color": COLOURS[0], "linestyle": "-"},
    {"color": COLOURS[1], "linestyle": "--"},
)
"""Lines differ by their dash too, not by colour alone."""


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
    style, script = ((TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
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
        "share_of": text.share_of,
        # Files of a run have four decimals, so values above 99.9 % cannot be distinguished.
        "sure": lambda confidence: "> 99.9 %" if confidence > 0.999 else text.percent(confidence),
    }
    environment.globals["counted"] = text.counted
    drawings, left = [], MAX_DRAWINGS
    for title, drawn in comparison["drawings"] if comparison else ():
        if len(drawn) <= left:
            left -= len(drawn)
            drawings.append(_image(drawn, title))
    facts = {"annotators": None, **facts}
    return environment.get_template("report.html").render(
        **facts,
        style=Markup(style),  # noqa: S704  # our own style sheet
        script=Markup(script),  # noqa: S704  # our own script
        policy=policy(style, script),
        sections=[(name, title) for name, title in SECTIONS.items() if name not in OPTIONAL or facts[name]],
        few=text.FEW,
        titles=TITLES,
        pictures=pictures,
        tables=comparison["tables"] if comparison else (),
        drawings=drawings,
        charts=_charts(facts),
        matrices=_matrices(facts),
        in_table=len(facts["classes"]) <= MAX_IN_TABLE,
    )


def policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: images inside the page, this style and script, nothing else."""
    ours, run = (
        base64.b64encode(hashlib.sha256(part.encode("utf-8")).digest()).decode("ascii")
        for part in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{ours}'; script-src 'sha256-{run}'; "
        "base-uri 'none'; form-action 'none'"
    )


def level(share: float) -> str:
    """CSS class of a cell by its share: ``h0`` to ``h10``; a share above 0.5 % is never ``h0``."""
    return f"h{max(round(10 * share), int(share > 0.005))}"


def _image(drawn: str, words: str) -> Mapping[str, str]:
    """An SVG as an image of the page: nothing in it can run or load anything."""
    # Lines and text change with the page's theme; a heat map keeps its light ground, as it is a bitmap.
    if "<image" not in drawn:
        drawn = drawn.replace("</desc>", f"</desc>\n <style>{DARK}</style>", 1)
    return {"address": data_url(drawn.encode("utf-8"), "image/svg+xml"), "words": words}


def _charts(facts: Facts) -> Mapping[str, Any]:
    rows = [row for row in facts["figures"] if not row["system"].endswith("_leaks_included")]
    ends = {"estimate": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    rows += [
        {"title": row["title"], "n": row["n"], "accuracy": {end: row[key] for end, key in ends.items()}}
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


def accuracy_chart(rows: Sequence[Json]) -> tuple[str, str]:
    """Accuracies with their 95 % intervals, one below the other, from 0 to 100 %: SVG and its description."""
    description = (
        "; ".join(f"{text.cut(row['title'], 34)} {text.interval(row['accuracy'], row['n'])}" for row in rows)
        + "."
    )

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for number, row in enumerate(rows):
            found, title = row["accuracy"], short(row["title"], 34)
            axes.plot([0, 100 * found["estimate"]], [number, number], color=COLOURS[0], alpha=0.4, lw=1.2)
            ends = [100 * found["low"], 100 * found["high"]]
            axes.plot(ends, [number, number], color=COLOURS[0], alpha=0.6, lw=4, solid_capstyle="round")
            axes.plot([100 * found["estimate"]], [number], "o", color=COLOURS[0], ms=6)
            axes.text(0, number - 0.2, title, va="bottom")
            axes.text(100, number - 0.2, text.share_of(found["estimate"], row["n"]), va="bottom", ha="right")
        axes.set_ylim(len(rows) - 0.6, -0.9)
        axes.set_xlim(-2, 102)
        axes.set_yticks([])
        axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)

    title = "Accuracy with 95 % intervals"
    drawn = svg(draw, width=WIDTH, height=0.5 * len(rows) + 0.5, title=title, description=description)
    return drawn, f"{title}. {description}"


def reliability_chart(curve: Json) -> tuple[str, str]:
    """Share of right predictions by confidence, with intervals, beside the ideal diagonal."""
    bins, n = curve["reliability"], curve["n"]
    listed = "; ".join(
        f"confidence {text.percent(found['confidence'])}: {text.interval(found['right'], found['n'])} right, "
        f"n = {found['n']:,}"
        for found in bins
    )

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        _shares(axes, "confidence", "right, %", 100.0)
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":")
        for found in bins:
            # The share of images in the bin, as a faint column: a point may stand for three of them.
            left, width = 100 * found["low"], 100 * (found["high"] - found["low"])
            axes.bar(left, 100 * found["n"] / n, width, align="edge", color=COLOURS[0], alpha=0.15)
            x, right = 100 * found["confidence"], found["right"]
            ends = [100 * right["low"], 100 * right["high"]]
            axes.plot([x, x], ends, color=COLOURS[0], alpha=0.6, lw=4, solid_capstyle="round")
            axes.plot([x], [100 * right["estimate"]], "o", color=COLOURS[0], ms=5)

    title = f"Calibration of {curve['title']}"
    description = f"Mean confidence of each bin and share right: {listed}."
    return svg(draw, width=WIDTH, height=3.9, title=title, description=description), f"{title}. {description}"


def coverage_chart(curves: Sequence[Json]) -> tuple[str, str]:
    """Share of errors among the most confident images, by how many of them are kept."""
    most = max(point["risk"] for curve in curves for point in curve["risk_coverage"])
    top = next(end for end in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if most <= end)
    points = [
        (curve["title"], [(point["coverage"], point["risk"]) for point in curve["risk_coverage"]])
        for curve in curves
    ]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        _shares(axes, "share of images kept, the most confident first", "wrong, %", 100 * top)
        for style, (title, some) in zip(STYLES, points, strict=False):
            across, up = zip(*some, strict=True)
            axes.plot([100 * x for x in across], [100 * y for y in up], label=short(title, 34), **style)
        axes.legend(loc="upper left", frameon=False)

    described = []
    for title, some in points:
        listed = ", ".join(f"{text.percent(y)} wrong of the first {100 * x:.0f} %" for x, y in some)
        described.append(f"{title}: {listed}.")
    description = " ".join(described)
    title = "Errors among the most confident images"
    return svg(draw, width=WIDTH, height=3.9, title=title, description=description), f"{title}. {description}"


def _shares(axes: "Axes", across: str, up: str, top: float) -> None:
    axes.set_xlim(0, 100)
    axes.set_ylim(0, top)
    axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
