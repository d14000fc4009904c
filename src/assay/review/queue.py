"""What to show next: the order that earns most for each look, with a random part that keeps count honest.

A label is worth a look as far as it is likely to be changed by it: an image whose most probable class is
right with 0.55 gains 0.45 of a right label. So doubtful images come first: on the course data more than
half of the first 200 had a wrong label. Sure corrections gain next to nothing, for they are right; a few are
shown so that a person sees soon if they are not. And a list of doubtful images says nothing of all the
others, so a share of the looks goes to images drawn at random. See benchmarks/results/review.json.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay.errors import UsageError
from assay.types import UNKNOWN, Labels, Mask, PerImage, Rows, same_length

STRATEGIES = ("mixed", "doubtful", "confident", "random")
"""``mixed``: of ten, seven doubtful, one confident error, two random; ``doubtful``: the least sure first;
``confident``: the surest of those that contradict their given label first, then the doubtful ones."""

_PATTERN = (
    *("doubtful", "doubtful", "random", "doubtful", "doubtful"),
    *("confident", "doubtful", "doubtful", "random", "doubtful"),
)


@dataclass(frozen=True)
class Order:
    """All images that a person may decide, in the order in which to show them."""

    rows: Rows
    sample: Rows
    """The same images in random order. Those before the first one that nobody looked at are a fair sample
    of all, whichever part of the queue they came from."""


def order_images(
    noisy: Labels, proposed: Labels, confidence: PerImage, open_rows: Mask, *, strategy: str, seed: int = 0
) -> Order:
    """The order of a strategy; the same for the same seed, whatever was decided so far.

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
    errors = doubtful[(noisy[doubtful] != UNKNOWN) & (noisy[doubtful] != proposed[doubtful])][::-1]
    if strategy == "random":
        return Order(sample, sample)
    if strategy == "doubtful":
        return Order(doubtful, sample)
    if strategy == "confident":
        return Order(_once(np.concatenate([errors, doubtful])), sample)
    return Order(_mixed({"doubtful": doubtful, "confident": errors, "random": sample}, len(noisy)), sample)


def _once(rows: Int[np.ndarray, "L"]) -> Rows:
    """Each row where it comes first."""
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _mixed(parts: dict[str, Rows], n: int) -> Rows:
    """Row after row from the part whose turn it is, or the doubtful ones where that part has ended."""
    used = np.zeros(n, dtype=bool)
    waiting = {name: iter(part.tolist()) for name, part in parts.items()}
    found: list[int] = []
    for turn in range(len(parts["doubtful"])):
        kind = _PATTERN[turn % len(_PATTERN)]
        row = next((row for row in waiting[kind] if not used[row]), None)
        if row is None:
            row = next(row for row in waiting["doubtful"] if not used[row])
        used[row] = True
        found.append(row)
    return np.array(found, dtype=np.int64)
