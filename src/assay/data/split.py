"""Which trusted images are held out for the evaluation, and the fold of each other image."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay.errors import UsageError
from assay.types import UNKNOWN, Labels, Mask

HOLDOUT_SHARE = 0.2
HOLDOUT_MOST = 2_000

VERSION = 3
"""Of the stratified draw; raised when a seed draws other rows, so that no run resumes with them."""


@dataclass(frozen=True)
class Split:
    """The trusted rows in two disjoint parts, each in ascending order."""

    fit: Int[np.ndarray, "F"]
    """Rows whose trusted labels are used for training."""
    holdout: Int[np.ndarray, "H"]
    """Rows whose trusted labels only the evaluation reads; see ``Dataset.without``."""

    @property
    def digest(self) -> str:
        """sha256 of both parts: runs with one digest held out the same rows."""
        digest = hashlib.sha256()
        for part in (self.fit, self.holdout):
            digest.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
        return digest.hexdigest()


def draw_holdout(
    trusted: Labels,
    usable: Mask | None = None,
    *,
    size: int | None = None,
    how: str = "stratified",
    seed: int = 0,
) -> Split:
    """Hold out a part of the trusted rows for the evaluation.

    Parameters
    ----------
    usable : rows that have an image, as far as is known; ``stratified`` draws no other
    size : rows to hold out; None is HOLDOUT_SHARE of the trusted rows, at most HOLDOUT_MOST
    how : ``stratified`` draws from each class in proportion, each row with the same chance, also the only row
        of a class; ``notebook`` holds out the 2,000 rows that the course's notebook did, whatever the seed

    Raises
    ------
    UsageError : a size that is negative or leaves fewer than two rows to fit, an unknown ``how``;
        ``notebook`` with 2,000 trusted rows or fewer, or with a size other than 2,000
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    if how == "notebook":
        if size not in (None, HOLDOUT_MOST):
            raise UsageError(
                f"--holdout-split notebook holds out {HOLDOUT_MOST:,} images, got --holdout {size:,}"
            )
        if len(rows) <= HOLDOUT_MOST:
            raise UsageError(
                f"--holdout-split notebook needs more than {HOLDOUT_MOST:,} trusted images, got "
                f"{len(rows):,}; use --holdout-split stratified"
            )
        # numpy.random.seed(1); numpy.random.choice(M, M - 2000, replace=False): the legacy generator's own.
        drawn = np.random.RandomState(1).choice(len(rows), len(rows) - HOLDOUT_MOST, replace=False)
        return Split(np.sort(rows[drawn]), np.delete(rows, drawn))
    if how != "stratified":
        raise UsageError(f"expected --holdout-split stratified or notebook, got {how!r}")
    rows = rows if usable is None else rows[usable[rows]]
    most = max(len(rows) - 2, 0)
    wanted = min(int(len(rows) * HOLDOUT_SHARE), HOLDOUT_MOST, most) if size is None else size
    if not 0 <= wanted <= most:
        raise UsageError(
            f"expected --holdout from 0 to {most:,}, so that two trusted images are left to train on, got "
            f"{wanted:,} of {len(rows):,}"
        )
    # Also the only row of a class: figures without the rare classes would not be figures of all images.
    held = np.sort(in_proportion(trusted, rows, seed)[:wanted])
    kept, least = rows[:0], min(2, len(np.unique(trusted[rows])))
    while len(np.unique(trusted[left := np.setdiff1d(rows, held)])) < least:
        # Nearly all rows are of one class: one of another class stays, since one class cannot be learned.
        kept = np.append(kept, rows[trusted[rows] != trusted[left[0]]][0])
        held = np.sort(in_proportion(trusted, np.setdiff1d(rows, kept), seed)[:wanted])
    return Split(left, held)


def in_proportion(labels: Labels, rows: Int[np.ndarray, "M"], seed: int) -> Int[np.ndarray, "M"]:
    """The rows in a random order of which every beginning has each class about in proportion.

    The row of rank r in a class of size m comes at (r + u) / m, where u is drawn for the class: so each row
    has nearly the same chance to be among the first n.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(rows)
    of_class = labels[shuffled]
    offset = generator.random(int(of_class.max(initial=0)) + 1)
    size = np.bincount(of_class, minlength=len(offset))
    by_class = np.argsort(of_class, kind="stable")
    rank = np.empty(len(rows), dtype=np.int64)  # of each row among those of its class
    rank[by_class] = np.arange(len(rows)) - np.searchsorted(of_class[by_class], of_class[by_class])
    place = (rank + offset[of_class]) / size[of_class]
    ordered: Int[np.ndarray, "M"] = shuffled[np.argsort(place, kind="stable")]
    return ordered


def folds(labels: Labels, k: int, seed: int) -> Labels:
    """The fold of each row, 0 to k - 1; folds differ by one row at most, and so does each class in them.

    Parameters
    ----------
    labels : to stratify on, such as the trusted ones; UNKNOWN is a class of its own

    Raises
    ------
    UsageError : fewer than two folds, or more than rows
    """
    if not 2 <= k <= len(labels):
        raise UsageError(f"expected from 2 to {len(labels):,} folds, one for each row at most, got {k}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[by_class] = np.arange(len(labels)) % k  # dealt like cards, class after class
    return fold_of
