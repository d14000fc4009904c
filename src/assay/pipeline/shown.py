"""The figures of a run that a person reads first, and a notebook's cell of them with eight label errors."""

import base64
import html
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.data.dataset import ImageSource, Skipped
from assay.data.files import USUAL, Limits
from assay.data.loader import THUMBNAIL_TYPE, draw_thumbnail
from assay.evaluate import Evaluation
from assay.text import cut, interval

if TYPE_CHECKING:
    import polars as pl

TITLES = {
    "histogram": "histogram baseline",
    "noisy_only": "noisy-label baseline",
    "assay": "assay",
    "histogram_leaks_included": "histogram baseline, near-duplicates included",
    "noisy_only_leaks_included": "noisy-label baseline, near-duplicates included",
    "assay_leaks_included": "assay, near-duplicates included",
    "assay_cross_validated": "assay, cross-validated",
    "assay_validated": "assay, validation images",
    "labels_cross_validated": "corrected labels, cross-validated",
    "labels_validated": "corrected labels, calibration images",
}
"""The figures of a run in the order in which a person reads them."""

ENOUGH = 100
"""Held-out images from which on the holdout's figures are the model's headline; of fewer the interval is more
than ten points wide to each side, and cross-validated ones say more."""

PICTURES = 8
SIDE = 112
"""Longest side of a picture, in pixels."""

_CELL = "display:inline-block;width:8em;margin:0 .8em .8em 0;vertical-align:top;overflow-wrap:anywhere"
_IMAGE = "width:8em;height:8em;object-fit:contain;background:rgba(128,128,128,.12);image-rendering:auto"


def main_figures(images: Mapping[str, int]) -> str:
    """The name of the model's own figures: on the holdout, or where that is small on the most images.

    Parameters
    ----------
    images : of the figures of each name
    """
    names = [name for name in ("assay", "assay_cross_validated", "assay_validated") if name in images]
    if images.get("assay", 0) >= ENOUGH:
        return "assay"
    return max(names, key=images.__getitem__, default="")


def why_not_measured(measured: Collection[str], n_held_out: int) -> str:
    """Why the model has no figure of its own among ``measured``, as the beginning of a sentence."""
    if "assay_leaks_included" in measured:
        return "Each held-out image is a near-duplicate of a training image"
    return "None of the held-out images could be used" if n_held_out else "No image was held out"


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
