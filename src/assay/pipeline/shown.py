"""A finished run in a notebook's cell: its two or three numbers, and the eight likeliest label errors."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.data.dataset import ImageSource, Skipped
from assay.data.files import USUAL, Limits
from assay.data.loader import THUMBNAIL_TYPE, draw_thumbnail
from assay.evaluate import Evaluation
from assay.pipeline.measure import main_figures
from assay.text import cut, interval

if TYPE_CHECKING:
    import polars as pl

PICTURES = 8
SIDE = 112
"""Longest side of a picture, in pixels."""

_CELL = "display:inline-block;width:8em;margin:0 .8em .8em 0;vertical-align:top;overflow-wrap:anywhere"
_IMAGE = "width:8em;height:8em;object-fit:contain;background:rgba(128,128,128,.12);image-rendering:auto"


def headline(noise_rate: Mapping[str, float], evaluation: Mapping[str, Evaluation]) -> list[tuple[str, str]]:
    """The numbers that a person asks for first, with their intervals: (what it is, the number)."""
    rows, images = [("wrong labels", interval(noise_rate))], {name: one.n for name, one in evaluation.items()}
    labels = next((name for name in ("labels_cross_validated", "labels_validated") if name in images), "")
    for what, name in (
        ("corrected labels right", labels),
        ("model right on new images", main_figures(images)),
    ):
        if name:
            right = interval(vars(evaluation[name].accuracy), images[name])
            rows.append((what, f"{right}, n = {images[name]:,}"))
    return rows


def as_html(
    title: str,
    rows: Sequence[tuple[str, str]],
    issues: "pl.DataFrame",
    images: ImageSource | None,
    limits: Limits = USUAL,
) -> str:
    """One HTML fragment without scripts, for light and dark pages.

    Parameters
    ----------
    issues : rows of labels.csv with ``row``, their place in it; the first ``PICTURES`` that can be drawn are
    images : in the order of labels.csv; None shows the numbers alone
    """
    lines = [f"<p><b>{html.escape(title)}</b></p>"]
    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
    lines.append(f"<table>{''.join(cells)}</table>")
    if images is None or not issues.height:
        return "".join(lines)
    pictures: list[str] = []
    for issue in issues.iter_rows(named=True):
        if len(pictures) == PICTURES:
            break
        drawn = draw_thumbnail(images, issue["row"], SIDE, limits)
        if not isinstance(drawn, Skipped):
            pictures.append(_picture(issue, drawn))
    lines.append(
        f"<p>Likeliest label errors, {len(pictures)} of {issues.height:,} (<code>labels.issues</code>):</p>"
        f"<div>{''.join(pictures)}</div>"
    )
    return "".join(lines)


def _picture(issue: Mapping[str, Any], drawn: bytes) -> str:
    data = base64.b64encode(drawn).decode()
    noisy, corrected, name = (
        html.escape(cut(issue[column])) for column in ("noisy_label", "corrected_label", "file")
    )
    return (
        f'<figure style="{_CELL}"><img style="{_IMAGE}" alt="" src="data:{THUMBNAIL_TYPE};base64,{data}">'
        f"<figcaption><s>{noisy}</s> → <b>{corrected}</b> {issue['confidence']:.2f}<br>"
        f"<small>{name}</small></figcaption></figure>"
    )
