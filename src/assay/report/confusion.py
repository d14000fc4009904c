"""A confusion matrix as a heat map: counts, and the share that each is of its row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.report.svg import PAPER, printable, short, svg
from assay.text import counted, percent
from assay.types import Counts, Transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_IN_WORDS = 12
"""Classes up to which each cell says its count and share; with more they would not fit."""

MOST_TICKS = 25
"""Class names along a side; of more classes every second, third… is named."""


def draw_confusion(
    counts: Counts, names: Sequence[str], *, title: str, rows: str = "trusted", columns: str = "predicted"
) -> str:
    """The heat map of ``counts`` as SVG text, each row coloured by the shares of its own total.

    Parameters
    ----------
    counts : images at [row, column]
    names : K class names, for both sides
    rows, columns : what the labels of each side are: ``trusted``, ``noisy``, ``predicted``

    Raises
    ------
    ValueError : names and counts that do not fit
    MissingExtraError : matplotlib is not installed
    """
    k = len(names)
    if counts.shape != (k, k):
        raise ValueError(f"expected counts of shape ({k}, {k}) for {k} names, got {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="none")
        bar = figure.colorbar(image, ax=axes, shrink=0.8, format=lambda share, _: f"{100 * share:.0f} %")
        bar.set_label(f"share of the row's {rows} class")
        _name_sides(axes, names, rows, columns)
        axes.set_title(short(title, 70))
        if k <= MOST_IN_WORDS:
            _write_cells(axes, counts, shares)

    side = float(np.clip(0.62 * k, 3.2, 7.4))
    words = describe_confusion(counts, names, rows, columns)
    return svg(draw, width=side + 2.6, height=side + 1.4, title=title, description=words)


def _name_sides(axes: "Axes", names: Sequence[str], rows: str, columns: str) -> None:
    step = -(-len(names) // MOST_TICKS)
    ticks = range(0, len(names), step)
    words = [short(names[i]) for i in ticks]
    kept: dict[str, Any] = {"fontsize": 9 if len(names) <= MOST_IN_WORDS else 7}
    axes.set_yticks(ticks, words, **kept)
    axes.set_xticks(ticks, words, rotation=45, ha="right", rotation_mode="anchor", **kept)
    axes.set_ylabel(rows)
    axes.set_xlabel(columns)


def _write_cells(axes: "Axes", counts: Counts, shares: Transition) -> None:
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        # White on the dark half of the map: at least 4.5:1 either way.
        ink = PAPER if share > 0.55 else "#1f2328"
        text = f"{count:,}\n{100 * share:.0f} %"
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)


def describe_confusion(counts: Counts, names: Sequence[str], rows: str, columns: str) -> str:
    """What the heat map shows, in words: how many agree, and the largest cell off the diagonal."""
    total, equal = int(counts.sum()), int(np.trace(counts))
    if not total:
        return f"No image has both a {rows} and a {columns} label."
    words = f"{rows.capitalize()} labels in rows, {columns} labels in columns, {counted(total, 'image')}. "
    words += f"The two are equal for {percent(equal / total)}."
    off = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    if off.any():
        row, column = np.unravel_index(int(off.argmax()), off.shape)
        n, share = int(counts[row, column]), counts[row, column] / counts[row].sum()
        words += (
            f" Most often confused: {rows} {printable(names[int(row)])}, {columns} "
            f"{printable(names[int(column)])}, {counted(n, 'image')}, {percent(share)} of the row."
        )
    return words
