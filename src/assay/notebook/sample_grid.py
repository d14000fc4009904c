"""A grid of sample images with their trusted and given names: the first thing to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset
from assay.data.formats import Skipped
from assay.data.loader import load_row
from assay.data.resize import to_square
from assay.drawing import COLOURS, INK, printable, short, svg
from assay.types import UNKNOWN, Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES = 8
"""As many as the notebook showed."""

ACROSS = 4
SIDE = 96
"""Pixels that a sample has at the most: the picture stays small, whatever the photos weigh."""


@dataclass(frozen=True)
class _Sample:
    name: str
    pixels: Pixels
    trusted: str
    """Empty where it is not known."""
    noisy: str


def draw_samples(dataset: Dataset, rows: Int[np.ndarray, "R"] | None = None, *, count: int = SAMPLES) -> str:
    """The first images of ``rows`` that can be opened, each with its two names, as SVG text.

    Parameters
    ----------
    rows : candidates, in the order to show them; None: those with both labels, in input order
    count : images at most

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    """
    if rows is None:
        rows = np.flatnonzero((dataset.noisy != UNKNOWN) & (dataset.trusted != UNKNOWN))
    samples = [sample for sample, _ in zip(_samples(dataset, rows), range(count), strict=False)]
    down = max(1, -(-len(samples) // ACROSS))

    def draw(figure: "Figure") -> None:
        grid: Any = figure.subplots(down, ACROSS, squeeze=False)
        for axes, sample in zip_longest(grid.flat, samples):
            if sample is None:
                axes.set_axis_off()
            else:
                _show(axes, sample)

    return svg(
        draw,
        width=1.9 * ACROSS,
        height=2.3 * down,
        title="Sample images with their trusted and given names",
        description=_in_words(samples),
    )


def _samples(dataset: Dataset, rows: Sequence[int] | np.ndarray) -> Iterator[_Sample]:
    words = (*(dataset.titles or dataset.classes), "")  # UNKNOWN, -1, has the empty name
    for row in rows:
        found = load_row(dataset, int(row), at_least=SIDE)
        if isinstance(found, Skipped):
            continue
        side = min(SIDE, max(found.pixels.shape[:2]))
        yield _Sample(
            dataset.names[row],
            to_square(found.pixels, side),
            words[dataset.trusted[row]],
            words[dataset.noisy[row]],
        )


def _show(axes: "Axes", sample: _Sample) -> None:
    axes.imshow(sample.pixels, interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    wrong = sample.trusted not in ("", sample.noisy)
    axes.set_title(f"trusted: {short(sample.trusted) or 'unknown'}", fontsize=9)
    noisy = f"given: {short(sample.noisy) or 'none'}{' ✗' if wrong else ''}"
    axes.set_xlabel(noisy, color=COLOURS[1] if wrong else INK, fontsize=9)


def _in_words(samples: Sequence[_Sample]) -> str:
    if not samples:
        return "No image with both labels could be opened."
    return "; ".join(
        f"{printable(sample.name)}: trusted {printable(sample.trusted) or 'unknown'}, "
        f"given {printable(sample.noisy) or 'none'}"
        for sample in samples
    )
