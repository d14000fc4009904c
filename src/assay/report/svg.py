"""SVG pictures: the same bytes each time, text that stays text, and words for those who cannot see them.

matplotlib draws on a Figure of its own, never through pyplot. A few of its settings have no other place
than its global ones: they are set for the moment of drawing, on top of matplotlib's own defaults, so that
a user's style file changes nothing here.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from assay.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]
"""Puts a picture on an empty figure."""

PAPER, INK, FAINT = "#fcfcfb", "#1f2328", "#d0d4da"
"""The picture brings its own light ground, so it reads as well on a dark page."""

COLOURS = ("#0b6e99", "#c4510c", "#3d7a3d", "#7a4fa3")
"""Of lines; each keeps 4.5:1 against the paper."""

_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "assay",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    # A label with two dollar signs is a label and no formula.
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
}

# What XML 1.0 cannot hold, half surrogates among it.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(draw: Draw, *, width: float, height: float, title: str, description: str) -> str:
    """The SVG file that ``draw`` makes, as text.

    Parameters
    ----------
    width, height : of the figure, in inches of 72 points
    title : the picture's name, for a screen reader and as a tooltip
    description : what there is to see, in words

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
        # A name may be in a script that matplotlib's font lacks; whoever shows the text has another.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _with_words(buffer.getvalue().decode("utf-8"), title, description)


def _with_words(drawn: str, title: str, description: str) -> str:
    """The picture with its title and description inside, and no document type that names an address."""
    start = drawn.index("<svg ")
    end = drawn.index(">", start)
    # Several pictures may stand in one page, where an id must be the only one of its name.
    name = hashlib.sha256(f"{title}\0{description}".encode("utf-8", "replace")).hexdigest()[:12]
    words = (
        f'\n <title id="t{name}">{escape(printable(title))}</title>'
        f'\n <desc id="d{name}">{escape(printable(description))}</desc>'
    )
    head = f'{drawn[start:end]} role="img" aria-labelledby="t{name} d{name}">'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{words}{drawn[end + 1 :]}'


def printable(text: str) -> str:
    """``text`` on one line, with a sign in place of what XML cannot hold."""
    return _FORBIDDEN.sub("\ufffd", " ".join(text.split()))


def short(text: str, most: int = 16) -> str:
    """``printable``, cut to ``most`` signs: a label may be as long as a stranger likes."""
    line = printable(text)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
