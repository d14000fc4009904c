"""The order in which images are reviewed: the most likely corrections first, with a random share.

Reviewing an image gains as much as it is likely to change the label: one whose proposed label is right with
0.55 gains 0.45 of a correct label. So doubtful images come first, which say nothing of all images; therefore
a share is drawn at random. Measured in benchmarks/results/review.json.
"""

from dataclasses import dataclass

import numpy as np

from assay.errors import UsageError
from assay.types import UNKNOWN, Labels, Mask, PerImage, Rows, same_length

STRATEGIES = ("mixed", "doubtful", "confident", "random")
"""``mixed``: of ten images seven doubtful ones, one confident label issue, two random ones; ``doubtful``: the
lowest confidence first; ``confident``: label issues of the highest confidence first, then doubtful images."""

_PATTERN = (
    *("doubtful", "doubtful", "random", "doubtful", "doubtful"),
    *("confident", "doubtful", "doubtful", "random", "doubtful"),
)


@dataclass(frozen=True)
class Order:
    """The images that a person may decide, in the order of the review."""

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
    sample = np.random.default_rng(seed).permutation(rows)
    doubtful = rows[np.argsort(confidence[rows], kind="stable")]
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
