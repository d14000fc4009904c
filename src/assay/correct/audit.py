"""Audit: what is wrong with a set of images besides wrong labels, found from features alone.

Copies and what follows from them (labels that contradict each other, held-out pictures that were learned
from), images that are of something else, images that show nothing, classes taken for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from assay.correct.class_pairs import ClassPair, confused_labels, look_alikes, votes
from assay.correct.density import LocalDensity, local_density, standardise
from assay.correct.near_duplicates import NearDuplicates, digest_of, find_near_duplicates
from assay.correct.outliers import SHARE, Outliers, find_outliers
from assay.types import UNKNOWN, Labels, Mask, Matrix, same_length

BLANK_FLAG = "low_information"

MANY = 10
"""From so many different files with the very same features on, those features say nothing of any of them."""

NAMED = 10
"""Copies that are named beside a held-out image: all of a picture a thousand times were a million names."""


@dataclass(frozen=True)
class Subject:
    """What is audited: N images as a run sees them."""

    views: tuple[Matrix, ...]
    """Features (N, D) of each view, any float type, may be memory maps."""
    contents: Sequence[bytes | None]
    """Digest of each image's bytes; None where it is not known."""
    noisy: Labels
    trusted: Labels
    """UNKNOWN for the holdout too: what is sealed stays sealed."""
    usable: Mask
    """False where the image was skipped: nothing is said of it."""
    holdout: Mask
    """Images that the evaluation keeps apart from the others."""
    n_classes: int
    flags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Remarks on images, from embedding them."""
    corrected: Labels | None = None
    """What each label should be, if that is known; the trusted, else the given label if not."""

    def __post_init__(self) -> None:
        views = {f"views[{number}]": view for number, view in enumerate(self.views)}
        same_length(
            contents=self.contents,
            noisy=self.noisy,
            trusted=self.trusted,
            usable=self.usable,
            holdout=self.holdout,
            **views,
        )


@dataclass(frozen=True)
class Leak:
    """A held-out image whose picture is also among the others."""

    row: int
    others: tuple[int, ...]
    """Its copies outside the holdout: the nearest, at most ``NAMED``; all are in the group of copies."""
    similarity: float
    """Greatest cosine with one of them."""


@dataclass(frozen=True)
class Audit:
    """What was found; rows are indices into the N images."""

    near_duplicates: tuple[NearDuplicates, ...]
    """Groups, the largest first."""
    equal: tuple[tuple[int, ...], ...]
    """Rows of equal files, the most first, whatever group of copies they are in."""
    noisy_conflicts: tuple[NearDuplicates, ...]
    """Those of them with two given labels or more: all but one are wrong."""
    trusted_conflicts: tuple[NearDuplicates, ...]
    """Those of them with two trusted labels or more: a person erred, or they are not one picture."""
    leaks: tuple[Leak, ...]
    """By similarity, the greatest first."""
    outliers: Outliers | None
    """None if there are too few images to tell."""
    blank: tuple[int, ...]
    """Images that show nothing: one colour, or features that many different files share."""
    label_pairs: tuple[ClassPair, ...]
    """Classes that the given labels confuse, against the trusted ones."""
    look_pairs: tuple[ClassPair, ...]
    """Classes whose images look alike."""

    @property
    def n_redundant(self) -> int:
        """Images that could go if one of each group of copies stayed."""
        return sum(len(group.rows) - 1 for group in self.near_duplicates)


def audit(subject: Subject, *, share: float = SHARE, seed: int = 0) -> Audit:
    """Look for everything.

    Parameters
    ----------
    share : of the images that belong, how many may be called off topic
    seed : draws the samples that images are compared with
    """
    rows = np.flatnonzero(subject.usable)
    if len(rows) < 2:
        return Audit((), (), (), (), (), None, _flagged(subject), (), ())
    features = standardise([view[rows] for view in subject.views])
    contents = [subject.contents[row] for row in rows.tolist()]
    around = local_density(features, seed)
    local = find_near_duplicates(around.directions, contents, around.spacing, around.dimension)
    groups = tuple(replace(group, rows=tuple(rows[list(group.rows)].tolist())) for group in local)
    return Audit(
        near_duplicates=groups,
        equal=_equal(rows, contents),
        noisy_conflicts=_conflicting(groups, subject.noisy),
        trusted_conflicts=_conflicting(groups, subject.trusted),
        leaks=_leaks(groups, subject.holdout, around.directions, _places(rows, len(subject.usable))),
        outliers=_outliers(subject, rows, features, share, seed),
        blank=tuple(sorted({*_flagged(subject), *rows[_indistinct(features, contents)].tolist()})),
        label_pairs=confused_labels(subject.noisy, subject.trusted, subject.n_classes),
        look_pairs=_look_pairs(subject, rows, around),
    )


def _equal(rows: Int[np.ndarray, "R"], contents: Sequence[bytes | None]) -> tuple[tuple[int, ...], ...]:
    files: dict[bytes, list[int]] = {}
    for row, content in zip(rows.tolist(), contents, strict=True):
        if content is not None:
            files.setdefault(content, []).append(row)
    several = [tuple(group) for group in files.values() if len(group) > 1]
    return tuple(sorted(several, key=lambda group: (-len(group), group)))


def _conflicting(groups: Sequence[NearDuplicates], labels: Labels) -> tuple[NearDuplicates, ...]:
    return tuple(group for group in groups if len({*labels[list(group.rows)].tolist()} - {UNKNOWN}) > 1)


def _leaks(
    groups: Sequence[NearDuplicates],
    holdout: Mask,
    directions: Float[np.ndarray, "R D"],
    places: Int[np.ndarray, "N"],
) -> tuple[Leak, ...]:
    found = []
    for group in groups:
        others = tuple(row for row in group.rows if not holdout[row])
        known = directions[places[list(others)]]
        for row in group.rows:
            if holdout[row] and others:
                cosines = known @ directions[places[row]]
                nearest = np.sort(np.argsort(-cosines, kind="stable")[:NAMED])
                named = tuple(others[at] for at in nearest.tolist())
                found.append(Leak(row, named, min(float(cosines.max()), 1.0)))
    return tuple(sorted(found, key=lambda leak: (-leak.similarity, leak.row)))


def _places(rows: Int[np.ndarray, "R"], n: int) -> Int[np.ndarray, "N"]:
    """Where each image is among ``rows``; -1 for those that are not."""
    places = np.full(n, -1)
    places[rows] = np.arange(len(rows))
    return places


def _outliers(
    subject: Subject, rows: Int[np.ndarray, "R"], features: Float[np.ndarray, "R D"], share: float, seed: int
) -> Outliers | None:
    found = find_outliers(features, subject.trusted[rows] != UNKNOWN, share=share, seed=seed)
    if found is None:
        return None
    score = np.zeros(len(subject.usable))
    score[rows] = found.score
    return replace(found, score=score, rows=rows[found.rows])


def _flagged(subject: Subject) -> tuple[int, ...]:
    return tuple(sorted(row for row, flags in subject.flags.items() if BLANK_FLAG in flags))


def _indistinct(features: Matrix, contents: Sequence[bytes | None]) -> list[int]:
    """Images whose features many files of other bytes have too."""
    alike: dict[bytes, list[int]] = {}
    for row, values in enumerate(features):
        alike.setdefault(digest_of(values), []).append(row)
    return [row for same in alike.values() if len({contents[row] for row in same}) >= MANY for row in same]


def _look_pairs(subject: Subject, rows: Int[np.ndarray, "R"], around: LocalDensity) -> tuple[ClassPair, ...]:
    known = np.where(subject.trusted != UNKNOWN, subject.trusted, subject.noisy)
    labels = (known if subject.corrected is None else subject.corrected)[rows]
    return look_alikes(labels, votes(labels, around.nearest, subject.n_classes))
