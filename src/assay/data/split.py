"""Which trusted images are held out for the evaluation, and the fold of each other image."""

import hashlib
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Int

from assay.errors import UsageError
from assay.types import UNKNOWN, Groups, Labels, Mask, Rows

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
    beside: Int[np.ndarray, "B"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Other rows whose group is held out: they are neither trained on nor evaluated."""

    def in_groups(self, groups: Groups | None) -> "Split":
        """The same with what else is in the groups of the holdout beside it."""
        if groups is None:
            return self
        whole = np.flatnonzero(np.isin(groups, groups[self.holdout]))
        return replace(self, beside=np.setdiff1d(whole, self.holdout))

    @property
    def hidden(self) -> Rows:
        """Rows that nothing is trained on, ascending."""
        return np.union1d(self.holdout, self.beside)

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
    groups: Groups | None = None,
) -> Split:
    """Hold out a part of the trusted rows for the evaluation.

    Parameters
    ----------
    usable : rows that have an image, as far as is known; ``stratified`` draws no other
    size : rows to hold out; None is HOLDOUT_SHARE of the trusted rows, at most HOLDOUT_MOST
    how : ``stratified`` draws from each class in proportion, each row with the same chance, also the only row
        of a class; ``notebook`` holds out the 2,000 rows that the course's notebook did, whatever the seed
    groups : of all rows; whole groups are held out, each with the same chance, so the size is met about

    Raises
    ------
    UsageError : a size that is negative or leaves fewer than two rows to fit, an unknown ``how``;
        ``notebook`` with 2,000 trusted rows or fewer, with a size other than 2,000, or with groups
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    if how == "notebook":
        if groups is not None:
            raise UsageError(
                "--holdout-split notebook holds out images whatever their group; leave out --group-col, or "
                "use --holdout-split stratified"
            )
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
    if groups is not None:
        held = _draw_groups(trusted, rows, groups, wanted, seed)
        return Split(np.setdiff1d(rows, held), held).in_groups(groups)
    # Also the only row of a class: figures without the rare classes would not be figures of all images.
    held = np.sort(in_proportion(trusted, rows, seed)[:wanted])
    kept, least = rows[:0], min(2, len(np.unique(trusted[rows])))
    while len(np.unique(trusted[left := np.setdiff1d(rows, held)])) < least:
        # Nearly all rows are of one class: one of another class stays, since one class cannot be learned.
        kept = np.append(kept, rows[trusted[rows] != trusted[left[0]]][0])
        held = np.sort(in_proportion(trusted, np.setdiff1d(rows, kept), seed)[:wanted])
    return Split(left, held)


def _draw_groups(trusted: Labels, rows: Rows, groups: Groups, wanted: int, seed: int) -> Rows:
    """About ``wanted`` rows, in whole groups: some folds of several, so that each row has the same chance."""
    n_groups = len(np.unique(groups[rows]))
    if not wanted or n_groups < 2:
        return rows[:0]
    finest = min(max(len(rows) // wanted, 10), n_groups)
    share = Fraction(wanted, len(rows)).limit_denominator(finest)
    share = min(max(share, Fraction(1, n_groups)), Fraction(n_groups - 1, n_groups))
    fold_of = folds(trusted[rows], share.denominator, seed, groups[rows])
    drawn = np.random.default_rng(seed).permutation(share.denominator)[: share.numerator]
    return rows[np.isin(fold_of, drawn)]


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


def folds(labels: Labels, k: int, seed: int, groups: Groups | None = None) -> Labels:
    """The fold of each row, 0 to k - 1; folds differ by one row at most, and so does each class in them.

    Parameters
    ----------
    labels : to stratify on, such as the trusted ones; UNKNOWN is a class of its own
    groups : of each row; a group is in one fold, and folds are as even as that allows

    Raises
    ------
    UsageError : fewer than two folds, more than rows, or more than groups
    """
    if groups is not None:
        return _group_folds(labels, k, seed, groups)
    if not 2 <= k <= len(labels):
        raise UsageError(f"expected from 2 to {len(labels):,} folds, one for each row at most, got {k}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[by_class] = np.arange(len(labels)) % k  # dealt like cards, class after class
    return fold_of


def _group_folds(labels: Labels, k: int, seed: int, groups: Groups) -> Labels:
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    if not 2 <= k <= len(size):
        raise UsageError(
            f"expected from 2 to {len(size):,} folds, one for each group at most, got {k}; use fewer "
            "--folds, or add images of other groups"
        )
    rows_of = np.split(np.argsort(number, kind="stable"), np.cumsum(size)[:-1])
    shuffled = np.random.default_rng(seed).permutation(len(size))
    n_classes = int(labels.max(initial=0)) + 2  # UNKNOWN, -1, is the last one
    weight = 1.0 / np.maximum(np.bincount(labels % n_classes, minlength=n_classes), 1) ** 2
    # Rows at [fold, class]. A group goes where it adds least to the sum over classes of squared shares, the
    # largest first: a fold that is still empty before all others.
    held, filled = np.zeros((k, n_classes)), np.zeros(k)
    fold_of = np.empty(len(labels), dtype=np.int64)
    for group in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        classes = labels[rows_of[group]]
        uneven = held[:, classes] @ weight[classes] + filled * len(classes) / len(labels) ** 2
        fold = int(uneven.argmin())
        np.add.at(held[fold], classes, 1)
        filled[fold] += len(classes)
        fold_of[rows_of[group]] = fold
    return fold_of
