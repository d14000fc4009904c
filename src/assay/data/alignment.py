"""Are the labels one line off? A shifted file pairs each image with its neighbour's label."""

import numpy as np
from jaxtyping import Int

from assay.types import UNKNOWN, Labels


def misalignment(noisy: Labels, trusted: Labels) -> str | None:
    """A warning if given and trusted labels agree by chance only, but far better when moved by one.

    "By chance" is within three, "far better" beyond six standard errors of the agreement that two labels
    have which know nothing of each other.

    Parameters
    ----------
    noisy, trusted : class indices or UNKNOWN, in the order in which files without names are read
    """
    here, chance, error = _agreement(noisy, trusted)
    moved = {"later": _agreement(noisy[1:], trusted[:-1]), "earlier": _agreement(noisy[:-1], trusted[1:])}
    shift = max(moved, key=lambda step: moved[step][0])
    there, moved_chance, moved_error = moved[shift]
    if here > chance + 3 * error or there <= moved_chance + 6 * moved_error:
        return None
    return (
        f"warning: possible_misalignment: given and trusted labels agree on {here:.3f} of the images "
        f"({chance:.3f} by chance), but on {there:.3f} with the trusted labels one image {shift}; "
        "is there a line too many or too few in one of the files?"
    )


def _agreement(noisy: Int[np.ndarray, "P"], trusted: Int[np.ndarray, "P"]) -> tuple[float, float, float]:
    """Share of equal labels, that of independent ones, and the standard error of the latter."""
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    if not both.any():
        return 0.0, 1.0, 0.0
    pair = noisy[both], trusted[both]
    size = 1 + max(int(labels.max()) for labels in pair)
    shares = [np.bincount(labels, minlength=size) / both.sum() for labels in pair]
    chance = float(shares[0] @ shares[1])
    return float(np.mean(pair[0] == pair[1])), chance, float(np.sqrt(chance * (1 - chance) / both.sum()))
