"""A finished run as a person reviews it, and the order of its images."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from assay.data.place import Place
from assay.errors import UsageError
from assay.pipeline.finished import OpenedRun, open_run
from assay.types import UNKNOWN, Labels, Mask, PerImage, Rows, Transition, same_length

STRATEGIES = ("mixed", "doubtful", "confident", "random")
"""``mixed``: of ten images seven doubtful ones, one confident label issue, two random ones; ``doubtful``: the
lowest confidence first; ``confident``: label issues of the highest confidence first, then doubtful images."""

_PATTERN = (
    *("doubtful", "doubtful", "random", "doubtful", "doubtful"),
    *("confident", "doubtful", "doubtful", "random", "doubtful"),
)


@dataclass(frozen=True)
class ReviewRun(OpenedRun):
    """A finished run as a person reviews it."""

    transition: Transition | None
    """P(noisy | true) at [true, noisy]; None where the run could not estimate it."""

    @cached_property
    def key(self) -> str:
        """Names this run in the URLs of images, so that a browser never shows those of another run."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:16]


def read_review_run(folder: Path, images: Place | None = None, *, follow_symlinks: bool = False) -> ReviewRun:
    """Read a finished run and open its images; parameters and errors as of ``open_run``."""
    run = open_run(folder, images, follow_symlinks=follow_symlinks, command="review")
    try:
        found = np.array(json.loads((folder / "noise.json").read_text(encoding="utf-8"))["transition"], float)
    except (OSError, ValueError, KeyError, TypeError):
        found = np.empty(0)  # it is only shown beside an image, and a review does without
    transition = found if found.shape == (len(run.labels), len(run.labels)) else None
    return ReviewRun(**vars(run), transition=transition)


@dataclass(frozen=True)
class Order:
    """The images that a person may decide, the most likely corrections first.

    A review gains as much as it is likely to change the label: where the proposed one is right with 0.55,
    0.45 of a correct label. Doubtful images say nothing of all images, so a share is drawn at random.
    Measured in benchmarks/results/review.json.
    """

    rows: Rows
    sample: Rows
    """The same in random order. Those before the first that is not reviewed are a fair sample of all
    images, whichever part of the queue they came from."""


def order_images(
    noisy: Labels, proposed: Labels, confidence: PerImage, open_rows: Mask, *, strategy: str, seed: int = 0
) -> Order:
    """The order of a strategy; it depends on the seed, and not on what was decided.

    Parameters
    ----------
    noisy : UNKNOWN where there is none
    proposed : the most probable class
    confidence : P(proposed is right)
    open_rows : images that may be decided

    Raises
    ------
    UsageError : no such strategy
    """
    same_length(noisy=noisy, proposed=proposed, confidence=confidence, open_rows=open_rows)
    if strategy not in STRATEGIES:
        raise UsageError(f"--strategy: expected {', '.join(STRATEGIES)}, got {strategy!r}")
    rows = np.flatnonzero(open_rows)
    sample = np.random.default_rng(seed).permutation(rows)  # of nothing else: see ``Order.sample``
    doubtful = rows[np.argsort(confidence[rows], kind="stable")]
    # From the other end: where the run is surest that the noisy label is wrong.
    issues = doubtful[(noisy[doubtful] != UNKNOWN) & (noisy[doubtful] != proposed[doubtful])][::-1]
    parts = {"doubtful": doubtful, "confident": issues, "random": sample}
    pattern = _PATTERN if strategy == "mixed" else (strategy,)
    waiting = {name: iter(part.tolist()) for name, part in parts.items()}
    used = np.zeros(len(noisy), dtype=bool)
    found: list[int] = []
    for turn in range(len(rows)):
        # A part that has ended is replaced by the doubtful images.
        turns = (pattern[turn % len(pattern)], "doubtful")
        row = next(row for name in turns for row in waiting[name] if not used[row])
        used[row] = True
        found.append(row)
    return Order(np.array(found, dtype=np.int64), sample)
