"""Loss and accuracy by epoch: did it still learn when it stopped?"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from assay.drawing import COLOURS, FAINT, printable, short, svg
from assay.notebook.sequential import Epoch
from assay.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES = ("-", "--", ":", "-.")
"""A stage is told by its dash too, not by its colour alone."""


def draw_history(epochs: Sequence[Epoch], *, title: str = "Loss and accuracy by epoch") -> str:
    """Two curves for each stage as SVG text: the loss, and the accuracy against the labels learned from.

    Parameters
    ----------
    epochs : in the order in which they were trained, at least one

    Raises
    ------
    ValueError : no epoch
    MissingExtraError : matplotlib is not installed
    """
    if not epochs:
        raise ValueError("expected at least one epoch to draw, got none")
    stages = [(stage, list(some)) for stage, some in groupby(epochs, key=lambda epoch: epoch.stage)]

    def draw(figure: "Figure") -> None:
        parts: Any = figure.subplots(1, 2)
        losses, shares = parts
        for number, (stage, some) in enumerate(stages):
            at = [epoch.epoch for epoch in some]
            look: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": DASHES[number % len(DASHES)],
                "marker": "o",
                "markersize": 3.5,
                "label": short(stage, 28),
            }
            losses.plot(at, [epoch.loss for epoch in some], **look)
            shares.plot(at, [100 * epoch.accuracy for epoch in some], **look)
        _finish(losses, "loss", stages)
        _finish(shares, "accuracy on what it learns from, %", stages)
        shares.set_ylim(0, 100)
        losses.set_ylim(bottom=0)

    return svg(draw, width=7.6, height=3.4, title=title, description=_in_words(stages))


def _finish(axes: "Axes", what: str, stages: Sequence[tuple[str, Sequence[Epoch]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, 0.5 + max(epoch.epoch for _, some in stages for epoch in some))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(stages) > 1:
        axes.legend(title="stage", title_fontsize=8, frameon=False, fontsize=8)


def _in_words(stages: Sequence[tuple[str, Sequence[Epoch]]]) -> str:
    return " ".join(
        f"Stage {printable(stage)}, {len(some)} epochs: loss {some[0].loss:.3f} to {some[-1].loss:.3f}, "
        f"accuracy {percent(some[0].accuracy)} to {percent(some[-1].accuracy)}."
        for stage, some in stages
    )
