"""Which trusted images are sealed for the evaluation, and which folds the others fall into."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from assay.errors import UsageError
from assay.types import UNKNOWN, Labels, Mask

HOLDOUT_SHARE = 0.2
HOLDOUT_MOST = 2_000

NOTEBOOK_SEED = 1

VERSION = 3
"""Of the stratified draw: raised when the same seed seals other rows, so that no run goes on with them."""


@dataclass(frozen=True)
class Split:
    """The trusted rows in two parts without a common row, each in ascending order."""

    fit: Int[np.ndarray, "F"]
    """Rows whose trusted labels may be learned from."""
    holdout: Int[np.ndarray, "H"]
    """Rows whose trusted labels only the evaluation reads."""

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
    """Set a part of the trusted rows aside for the evaluation.

    Parameters
    ----------
    usable : rows that have an image, as far as is known; ``stratified`` takes no other, ``notebook`` asks
        nobody
    size : rows to hold out; None is HOLDOUT_SHARE of the trusted rows, at most HOLDOUT_MOST
    how : ``stratified`` draws from each class in proportion, each row with the same chance, so that a figure
        on the holdout is one for all images. The only row of a class may be held out: if it always stayed,
        rare classes would be missing from every figure;
        ``notebook`` holds out what the notebook did, whatever ``seed`` says: the 2,000 trusted rows that
        ``numpy.random.seed(1); numpy.random.choice(M, M - 2000, replace=False)`` does not draw

    Raises
    ------
    UsageError : a size that is negative or leaves fewer than two rows to fit, an unknown ``how``;
        ``notebook`` with 2,000 trusted rows or fewer, or with a size other than 2,000
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    if how == "notebook":
        return _notebook(rows, size)
    if how != "stratified":
        raise UsageError(f"expected --holdout-split stratified or notebook, got {how!r}")
    rows = rows if usable is None else rows[usable[rows]]
    room = max(len(rows) - 2, 0)
    wanted = min(int(len(rows) * HOLDOUT_SHARE), HOLDOUT_MOST, room) if size is None else size
    if not 0 <= wanted <= room:
        raise UsageError(
            f"expected --holdout from 0 to {room:,}, so that two trusted images are left to learn from, got "
            f"{wanted:,} of {len(rows):,}"
        )
    held = _drawn(trusted, rows, wanted, seed)
    return Split(np.setdiff1d(rows, held), held)


def _drawn(trusted: Labels, rows: Int[np.ndarray, "M"], size: int, seed: int) -> Int[np.ndarray, "H"]:
    """``size`` of the rows, ascending; two classes stay if there are two."""
    held = np.sort(in_proportion(trusted, rows, seed)[:size])
    left = np.setdiff1d(rows, held)
    if len(np.unique(trusted[left])) >= min(2, len(np.unique(trusted[rows]))):
        return held
    # Nearly all are of one class: the others stay, for nothing is learned from one class.
    rare = rows[trusted[rows] != trusted[left[0]]][0]
    return np.sort(in_proportion(trusted, rows[rows != rare], seed)[:size])


def in_proportion(labels: Labels, rows: Int[np.ndarray, "M"], seed: int) -> Int[np.ndarray, "M"]:
    """The rows in a random order of which every beginning holds each class about in proportion.

    The row of rank r in a class of size m comes at (r + u) / m, where u is drawn for the class: so each row
    has nearly the same chance to be among the first n.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(rows)
    of_class = labels[shuffled]
    offset = generator.random(int(of_class.max(initial=0)) + 1)
    size = np.bincount(of_class, minlength=len(offset))
    place = (_rank_in_class(of_class) + offset[of_class]) / size[of_class]
    ordered: Int[np.ndarray, "M"] = shuffled[np.argsort(place, kind="stable")]
    return ordered


def validation_slice(
    fit_rows: Int[np.ndarray, "F"], size: int, seed: int
) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "V"]]:
    """(rows to train on, ``size`` rows to validate on), both ascending, drawn from ``fit_rows``.

    Raises
    ------
    UsageError : a negative size, or one that leaves nothing to train on
    """
    if not 0 <= size < max(len(fit_rows), 1):
        raise UsageError(f"expected a validation part from 0 to {len(fit_rows) - 1:,} rows, got {size:,}")
    shuffled = np.random.default_rng(seed).permutation(fit_rows)
    return np.sort(shuffled[size:]), np.sort(shuffled[:size])


def folds(labels: Labels | int, k: int, seed: int) -> Labels:
    """The fold of each row, 0 to k - 1; folds differ by one row at most, and so does each class in them.

    Parameters
    ----------
    labels : what to stratify on, such as the trusted labels; rows that are UNKNOWN are spread like a
        class of their own. Or a number of rows, which are then all alike

    Raises
    ------
    UsageError : fewer than two folds, or more than rows
    """
    groups = np.full(labels, UNKNOWN) if isinstance(labels, int) else labels
    if not 2 <= k <= len(groups):
        raise UsageError(f"expected from 2 to {len(groups):,} folds, one for each row at most, got {k}")
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    by_class = shuffled[np.argsort(groups[shuffled], kind="stable")]
    fold_of = np.empty(len(groups), dtype=np.int64)
    fold_of[by_class] = np.arange(len(groups)) % k  # dealt out like cards, class after class
    return fold_of


def _notebook(rows: Int[np.ndarray, "M"], size: int | None) -> Split:
    if size not in (None, HOLDOUT_MOST):
        raise UsageError(
            f"--holdout-split notebook holds out {HOLDOUT_MOST:,} images, got --holdout {size:,}"
        )
    if len(rows) <= HOLDOUT_MOST:
        raise UsageError(
            f"--holdout-split notebook needs more than {HOLDOUT_MOST:,} trusted images, got {len(rows):,}; "
            "use --holdout-split stratified"
        )
    # The legacy generator, for the only stream that gives the notebook's rows.
    generator = np.random.RandomState(NOTEBOOK_SEED)
    drawn = generator.choice(len(rows), len(rows) - HOLDOUT_MOST, replace=False)
    return Split(np.sort(rows[drawn]), np.delete(rows, drawn))


def _rank_in_class(labels: Int[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
    """How many rows of the same class came before each row."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order], side="left")
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - starts
    return rank
