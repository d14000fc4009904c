"""The charts of the report: accuracies, calibration, and errors among the most confident images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.drawing import COLOURS, FAINT, INK, short, svg
from assay.text import cut, interval, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Facts = Mapping[str, Any]

WIDTH = 4.7
"""Inches: 340 points, about the pixels of a phone, so 10-point text stays readable there."""

_STYLES: tuple[dict[str, Any], ...] = (
    {"color": COLOURS[0], "linestyle": "-"},
    {"color": COLOURS[1], "linestyle": "--"},
)
"""Lines differ by their dash too, not by colour alone."""


def accuracy_chart(rows: Sequence[Facts]) -> tuple[str, str]:
    """Accuracies with their 95 % intervals, one below the other, from 0 to 100 %: SVG and its description.

    Parameters
    ----------
    rows : each with a ``title`` and an ``accuracy``, an interval
    """
    description = "; ".join(f"{cut(row['title'], 34)} {interval(row['accuracy'])}" for row in rows) + "."

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for number, row in enumerate(rows):
            found, title = row["accuracy"], short(row["title"], 34)
            axes.plot([0, 100 * found["estimate"]], [number, number], color=COLOURS[0], alpha=0.4, lw=1.2)
            ends = [100 * found["low"], 100 * found["high"]]
            axes.plot(ends, [number, number], color=COLOURS[0], alpha=0.6, lw=4, solid_capstyle="round")
            axes.plot([100 * found["estimate"]], [number], "o", color=COLOURS[0], ms=6)
            axes.text(0, number - 0.2, title, va="bottom")
            axes.text(100, number - 0.2, percent(found["estimate"]), va="bottom", ha="right")
        axes.set_ylim(len(rows) - 0.6, -0.9)
        axes.set_xlim(-2, 102)
        axes.set_yticks([])
        axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)

    title = "Accuracy with 95 % intervals"
    drawn = svg(draw, width=WIDTH, height=0.5 * len(rows) + 0.5, title=title, description=description)
    return drawn, f"{title}. {description}"


def reliability_chart(curve: Facts) -> tuple[str, str]:
    """Share of right predictions by confidence, with intervals, beside the ideal diagonal."""
    bins, n = curve["reliability"], curve["n"]
    listed = "; ".join(
        f"confidence {percent(found['confidence'])}: {interval(found['right'])} right, {found['n']:,} images"
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


def coverage_chart(curves: Sequence[Facts]) -> tuple[str, str]:
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
        for style, (title, some) in zip(_STYLES, points, strict=False):
            across, up = zip(*some, strict=True)
            axes.plot([100 * x for x in across], [100 * y for y in up], label=short(title, 34), **style)
        axes.legend(loc="upper left", frameon=False)

    description = " ".join(
        f"{title}: " + ", ".join(f"{percent(y)} wrong of the first {100 * x:.0f} %" for x, y in some) + "."
        for title, some in points
    )
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
