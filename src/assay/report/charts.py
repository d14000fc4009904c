"""Charts as SVG elements of the page: they take its colours, light and dark, and are told in words too.

Drawn by hand and not by matplotlib, whose pictures bring a ground and letters of their own: these stay
readable at the width of a phone, where a chart is as wide as it is drawn here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from assay.text import cut, interval, percent

Facts = Mapping[str, Any]

Number = int | float
"""A place or a length."""

WIDTH = 340
"""Of every chart, in its own units: about the pixels of a phone."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 326, 12, 236
"""The field between the axes."""


def tag(name: str, *inside: str, **attributes: object) -> str:
    """An element; ``_`` in the name of an attribute is ``-``, and ``class_`` is ``class``."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_short(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>"


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def words(text: str, x: Number, y: Number, class_: str = "ink", anchor: str = "start") -> str:
    """A line of text."""
    return tag("text", escape(text), x=x, y=y, class_=class_, text_anchor=anchor)


def chart(name: str, height: Number, title: str, description: str, parts: Iterable[str]) -> str:
    """An image with its name and description, whose ids begin with ``name``."""
    return tag(
        "svg",
        tag("title", escape(title), id=f"{name}-t"),
        tag("desc", escape(description), id=f"{name}-d"),
        *parts,
        class_="chart",
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
    )


def accuracy_chart(rows: Sequence[Facts]) -> str:
    """Accuracies with their intervals, one below the other, from 0 to 100 %.

    Parameters
    ----------
    rows : each with a ``title`` and an ``accuracy``, an interval
    """
    step, left, wide = 38, 6, WIDTH - 12
    height = step * len(rows) + 22
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + wide * share
        parts.append(tag("line", x1=x, x2=x, y1=4, y2=height - 20, class_="grid"))
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        parts.append(words(f"{100 * share:.0f} %", x, height - 6, "soft", anchor))
    for number, row in enumerate(rows):
        found, y = row["accuracy"], step * number + 32
        low, high, at = (left + wide * found[end] for end in ("low", "high", "estimate"))
        parts += [
            words(cut(row["title"], 34), left, y - 10),
            words(percent(found["estimate"]), WIDTH - 6, y - 10, "ink", "end"),
            tag("line", x1=left, x2=at, y1=y, y2=y, class_="thin one"),
            tag("line", x1=low, x2=high, y1=y, y2=y, class_="thick one"),
            tag("circle", cx=at, cy=y, r=4.5, class_="dot one"),
        ]
    told = "; ".join(f"{cut(row['title'], 34)} {interval(row['accuracy'])}" for row in rows)
    return chart("accuracy", height, "Accuracy with 95 % intervals", f"{told}.", parts)


def reliability_chart(name: str, curve: Facts) -> str:
    """How often predictions of each confidence were right, with intervals, beside the line of the ideal."""
    bins, n = curve["reliability"], curve["n"]
    parts = [*_field("confidence", "right", 1.0), _line([(0, 0), (1, 1)], 1.0, "ideal")]
    for found in bins:
        # The share of images in the bin, as a faint column: a point may stand for three of them.
        low, high = (_LEFT + (_RIGHT - _LEFT) * found[end] for end in ("low", "high"))
        tall = (_BOTTOM - _TOP) * found["n"] / n
        parts.append(
            tag("rect", x=low + 1, y=_BOTTOM - tall, width=high - low - 2, height=tall, class_="share")
        )
    for found in bins:
        right = found["right"]
        (x, y), (_, low), (_, high) = (
            _at(found["confidence"], right[end], 1.0) for end in ("estimate", "low", "high")
        )
        parts.append(tag("line", x1=x, x2=x, y1=low, y2=high, class_="thick one"))
        parts.append(tag("circle", cx=x, cy=y, r=3.5, class_="dot one"))
    told = "; ".join(
        f"{percent(found['confidence'])} sure: {interval(found['right'])} right, {found['n']:,} images"
        for found in bins
    )
    title = f"Calibration of {curve['title']}"
    return chart(name, 280, title, f"Mean confidence of each bin and share right. {told}.", parts)


COVERAGE_LOOKS = ("one", "two")
"""A line is told by its dash too, not by its colour alone."""


def coverage_chart(curves: Sequence[Facts]) -> str:
    """What share of the surest images is wrong, by how many are relied on."""
    most = max(point["risk"] for curve in curves for point in curve["risk_coverage"])
    top = next(end for end in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if most <= end)
    parts, told = [*_field("share of images relied on", "wrong", top)], []
    for number, (look, curve) in enumerate(zip(COVERAGE_LOOKS, curves, strict=False)):
        points = [(point["coverage"], point["risk"]) for point in curve["risk_coverage"]]
        parts.append(_line(points, top, f"curve {look}"))
        y = _TOP + 14 + 16 * number
        parts.append(tag("line", x1=_LEFT + 8, x2=_LEFT + 34, y1=y - 4, y2=y - 4, class_=f"curve {look}"))
        parts.append(words(curve["title"], _LEFT + 40, y))
        some = ", ".join(f"{percent(risk)} wrong of the surest {100 * share:.0f} %" for share, risk in points)
        told.append(f"{curve['title']}: {some}.")
    return chart("coverage", 280, "Mistakes among the surest images", " ".join(told), parts)


def _field(across: str, up: str, top: float) -> Iterable[str]:
    """The axes with their numbers: shares from 0 to 1 across, from 0 to ``top`` up."""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _at(share, share * top, top)
        yield tag("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid")
        yield words(f"{100 * share:.0f} %", x, _BOTTOM + 16, "soft", "end" if share == 1 else "middle")
        yield words(f"{100 * share * top:.3g}", _LEFT - 6, y + 4, "soft", "end")
    yield words(across, (_LEFT + _RIGHT) / 2, _BOTTOM + 36, "ink", "middle")
    middle = (_TOP + _BOTTOM) / 2
    yield tag(
        "text",
        f"{up}, %",
        x=11,
        y=middle,
        class_="ink",
        text_anchor="middle",
        transform=f"rotate(-90 11 {middle:.0f})",
    )


def _at(across: Number, up: Number, top: float) -> tuple[Number, Number]:
    return _LEFT + (_RIGHT - _LEFT) * across, _BOTTOM - (_BOTTOM - _TOP) * up / top


def _line(points: Sequence[tuple[Number, Number]], top: float, class_: str) -> str:
    places = (_at(across, up, top) for across, up in points)
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_=class_)
