"""Pictures as SVG by matplotlib: the same bytes each time, text that stays text, a title and a description.

matplotlib draws on a Figure of its own, never through pyplot. A few of its settings are global only: they
are set while a picture is drawn, on top of matplotlib's defaults, so a user's style changes nothing here.
"""

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from assay.errors import MissingExtraError
from assay.text import counted, percent
from assay.types import Counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]
"""Puts a picture on an empty figure."""

PAPER, INK, FAINT = "#fcfcfb", "#1f2328", "#d0d4da"
"""A picture brings its own light ground, so it also reads on a dark page."""

COLOURS = ("#0b6e99", "#c4510c", "#3d7a3d", "#7a4fa3")
"""Of lines; each has a contrast of 4.5:1 on the paper."""

MAX_CELLS = 12
"""Classes up to which each cell of a matrix shows its number; with more they would not fit."""

MAX_TICKS = 25
"""Class names along a side; of more classes every second, third… is named."""

MAX_PIXELS = 300
"""Side of a matrix in pixels; of more classes several share a pixel, which shows the largest of them."""

_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "assay",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
}

# Characters that XML 1.0 does not allow, half surrogates among them.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(draw: Draw, *, width: float, height: float, title: str, description: str) -> str:
    """The SVG file that ``draw`` makes, as text.

    Parameters
    ----------
    width, height : of the figure, in inches of 72 points
    title, description : for screen readers: the picture's name, and what it shows

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    from matplotlib.figure import Figure

    plain = {name: value for name, value in mpl.rcParamsDefault.items() if "backend" not in name}
    settings: Any = {**plain, **_SETTINGS}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The viewer has other fonts: a glyph that matplotlib's font lacks is still shown.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawn = buffer.getvalue().decode("utf-8")
    start = drawn.index("<svg ")  # drops the document type, which names an address
    end = drawn.index(">", start)
    # Ids must differ between the pictures of one page.
    name = hashlib.sha256(f"{title}\0{description}".encode("utf-8", "replace")).hexdigest()[:12]
    words = (
        f'\n <title id="t{name}">{escape(printable(title))}</title>'
        f'\n <desc id="d{name}">{escape(printable(description))}</desc>'
    )
    head = f'{drawn[start:end]} role="img" aria-labelledby="t{name} d{name}">'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{words}{drawn[end + 1 :]}'


def data_url(content: bytes, media_type: str) -> str:
    """The content inside an address, so that a page loads nothing."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def printable(text: str) -> str:
    """``text`` on one line, with U+FFFD in place of what XML does not allow."""
    return _FORBIDDEN.sub("\ufffd", " ".join(text.split()))


def short(text: str, most: int = 16) -> str:
    """``printable``, cut to ``most`` characters."""
    line = printable(text)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def draw_confusion(
    counts: Counts, names: Sequence[str], *, title: str, rows: str = "trusted", columns: str = "predicted"
) -> str:
    """A confusion matrix as a heat map: counts, coloured by their share of the row.

    Parameters
    ----------
    counts : (K, K) images at [row, column]
    names : K class names, for both sides
    rows, columns : kind of label on each side: ``trusted``, ``noisy``, ``predicted``

    Raises
    ------
    ValueError : names and counts that do not fit
    MissingExtraError : matplotlib is not installed
    """
    k = len(names)
    if counts.shape != (k, k):
        raise ValueError(f"expected counts of shape ({k}, {k}) for {k} names, got {counts.shape}")
    description = describe_confusion(counts, names, rows, columns)
    return draw_matrix(counts, names, title=title, description=description, rows=rows, columns=columns)


def draw_matrix(
    matrix: np.ndarray, names: Sequence[str], *, title: str, description: str, rows: str, columns: str
) -> str:
    """A (K, K) matrix of counts or probabilities as a heat map, each row coloured by its shares.

    Up to 12 classes each cell of counts shows its number and share.
    """
    k = len(names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    block = -(-k // MAX_PIXELS)
    padding = -k % block
    side = (k + padding) // block
    shown = np.pad(shares, (0, padding)).reshape(side, block, side, block).max(axis=(1, 3))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        extent = (-0.5, side * block - 0.5, side * block - 0.5, -0.5)
        image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, interpolation="none", extent=extent)
        bar = figure.colorbar(image, ax=axes, shrink=0.8, format=lambda share, _: f"{100 * share:.0f} %")
        bar.set_label(f"share of the row's {rows} class")
        ticks = range(0, k, -(-k // MAX_TICKS))
        words = [short(names[i]) for i in ticks]
        size = 9 if k <= MAX_CELLS else 7
        axes.set_yticks(ticks, words, fontsize=size)
        axes.set_xticks(ticks, words, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_ylabel(rows)
        axes.set_xlabel(columns)
        axes.set_title(short(title, 70))
        if k > MAX_CELLS or matrix.dtype.kind == "f":
            return
        for (row, column), count in np.ndenumerate(matrix):
            share = shares[row, column]
            ink = PAPER if share > 0.55 else INK  # white on the dark half of the map
            text = f"{count:,}\n{100 * share:.0f} %"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)

    inches = float(np.clip(0.62 * k, 3.2, 7.4))
    return svg(draw, width=inches + 2.6, height=inches + 1.4, title=title, description=description)


def describe_confusion(counts: Counts, names: Sequence[str], rows: str, columns: str) -> str:
    """The same in words: how many labels agree, and the largest cell off the diagonal."""
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
