"""Audit: what is wrong with a set of images besides wrong labels, found from features alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom

from assay.correct.near_duplicates import (
    NearDuplicates,
    digest_of,
    find_near_duplicates,
    local_density,
    standardise,
)
from assay.correct.outliers import SHARE, Outliers, find_outliers
from assay.noise import count_pairs
from assay.types import UNKNOWN, Labels, Mask, Matrix, Probs, same_length

MANY = 10  # features that so many different files share hold no information of any of them
NAMED = 10  # near-duplicates named beside a holdout image: all of a thousand copies were a million names
MOST_PAIRS = 20  # pairs of classes in the JSON: those of a thousand classes are half a million
LEVEL = 0.05  # chance that any pair is called unusual if wrong labels fall on all classes alike

KINDS = {
    "duplicates": "groups of equal files",
    "near_duplicates": "groups of near-duplicates",
    "trusted_conflict": "groups of near-duplicates with different trusted labels",
    "noisy_conflict": "groups of near-duplicates with different noisy labels",
    "leak": "holdout images that are also among the others",
    "outliers": "outliers: images unlike those that belong",
    "no_information": "images without information",
}
"""Kinds of findings, in the order of the rows."""


@dataclass(frozen=True)
class Leak:
    """A holdout image whose picture is also among the others."""

    row: int
    others: tuple[int, ...]
    """Its near-duplicates outside the holdout: the nearest, at most ``NAMED``; the group has all."""
    similarity: float
    """Greatest cosine with one of them."""


@dataclass(frozen=True)
class ClassPair:
    """Two classes, and how often one is taken for the other, both ways together."""

    one: int
    other: int
    share: float
    """Of the images of both classes, those that are taken for the other one of the two."""
    expected: float
    """The same if all that is wrong fell on all other classes alike."""
    is_unusual: bool
    """Whether the share is above the expected one, and not by chance."""


@dataclass(frozen=True)
class Audit:
    """What was found; rows are indices into the N images, groups come the largest first."""

    near_duplicates: tuple[NearDuplicates, ...]
    equal: tuple[tuple[int, ...], ...]
    """Rows of equal files, the most first, whatever group of near-duplicates they are in."""
    noisy_conflicts: tuple[NearDuplicates, ...]
    """Groups with two noisy labels or more: all but one are wrong."""
    trusted_conflicts: tuple[NearDuplicates, ...]
    """Groups with two trusted labels or more: a person erred, or they are not one picture."""
    leaks: tuple[Leak, ...]
    """By similarity, the greatest first."""
    outliers: Outliers | None
    """None if there are too few images to tell."""
    blank: tuple[int, ...]
    """Images without information: one colour, or features that many different files share."""
    label_pairs: tuple[ClassPair, ...]
    """Classes that the noisy labels confuse, against the trusted ones."""
    look_pairs: tuple[ClassPair, ...]
    """Classes whose images look alike."""

    @property
    def n_redundant(self) -> int:
        """Images that could go if one of each group of near-duplicates stayed."""
        return sum(len(group.rows) - 1 for group in self.near_duplicates)


@dataclass(frozen=True)
class Finding:
    """One row of audit.csv."""

    file: str
    """The image; of near-duplicates the first one, which may stay when the others go."""
    kind: str
    """One of ``KINDS``."""
    others: tuple[str, ...]
    """The other images of the finding: its near-duplicates."""
    score: float
    """Of near-duplicates and leaks a cosine in [-1, 1]; of outliers how far out they are, above 1; of wrong
    labels the probability of another one; else 1."""
    label: str = ""
    """Of a wrong label, the class that the image has instead."""


def audit(
    views: Sequence[Matrix],
    contents: Sequence[bytes | None],
    noisy: Labels,
    trusted: Labels,
    *,
    usable: Mask,
    holdout: Mask,
    n_classes: int,
    flags: Mapping[int, tuple[str, ...]] | None = None,
    corrected: Labels | None = None,
    share: float = SHARE,
    seed: int = 0,
) -> Audit:
    """Near-duplicates, conflicting labels, leaks, outliers, blank images, classes taken for each other.

    Parameters
    ----------
    views : features (N, D) of each view, any float type, may be memory maps
    contents : digest of each image's bytes; None where it is not known
    noisy, trusted : trusted labels of the holdout must be UNKNOWN
    usable : False where the image was skipped: it is left out
    holdout : images that the evaluation keeps apart from the others
    flags : warnings on images, from embedding them
    corrected : corrected labels, if they are known; else the trusted, else the noisy label counts
    share : of the images that belong, how many may be called outliers
    seed : draws the samples that images are compared with
    """
    named = {f"views[{number}]": view for number, view in enumerate(views)}
    same_length(contents=contents, noisy=noisy, trusted=trusted, usable=usable, holdout=holdout, **named)
    rows = np.flatnonzero(usable)
    flagged = {row for row, found in (flags or {}).items() if "low_information" in found}
    if len(rows) < 2:
        return Audit((), (), (), (), (), None, tuple(sorted(flagged)), (), ())
    features, files = standardise([view[rows] for view in views]), [contents[row] for row in rows.tolist()]
    around = local_density(features, seed)
    groups = tuple(
        replace(group, rows=tuple(rows[list(group.rows)].tolist()))
        for group in find_near_duplicates(around.directions, files, around.spacing, around.dimension)
    )
    outliers = find_outliers(features, trusted[rows] != UNKNOWN, share=share, seed=seed)
    if outliers is not None:
        score = np.zeros(len(usable))
        score[rows] = outliers.score
        outliers = replace(outliers, score=score, rows=rows[outliers.rows])
    known = np.where(trusted != UNKNOWN, trusted, noisy) if corrected is None else corrected
    equal = [rows[same] for same in _grouped(files) if files[same[0]] is not None and len(same) > 1]
    blank = {*flagged}
    for same in _grouped(map(digest_of, features)):
        if len({files[at] for at in same}) >= MANY:
            blank.update(rows[same].tolist())

    def conflicting(labels: Labels) -> tuple[NearDuplicates, ...]:
        return tuple(group for group in groups if len({*labels[list(group.rows)].tolist()} - {UNKNOWN}) > 1)

    return Audit(
        near_duplicates=groups,
        equal=tuple(sorted((tuple(same.tolist()) for same in equal), key=lambda same: (-len(same), same))),
        noisy_conflicts=conflicting(noisy),
        trusted_conflicts=conflicting(trusted),
        leaks=find_leaks(groups, holdout, rows, around.directions),
        outliers=outliers,
        blank=tuple(sorted(blank)),
        label_pairs=class_pairs(count_pairs(noisy, trusted, n_classes).astype(float)),
        look_pairs=look_alikes(known[rows], votes(known[rows], around.nearest, n_classes)),
    )


def _grouped(keys: Iterable[bytes | None]) -> list[list[int]]:
    """The places of each key."""
    places: dict[bytes | None, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return [*places.values()]


def find_leaks(
    groups: Sequence[NearDuplicates],
    holdout: Mask,
    rows: Int[np.ndarray, "R"],
    directions: Float[np.ndarray, "R D"],
) -> tuple[Leak, ...]:
    """Images of the holdout whose picture is also among the others, by similarity.

    Parameters
    ----------
    groups : of rows of N images
    rows, directions : the R usable ones, and their unit vectors
    """
    places = np.full(len(holdout), -1)
    places[rows] = np.arange(len(rows))
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


def look_alikes(labels: Labels, pred_probs: Probs) -> tuple[ClassPair, ...]:
    """Pairs by how much of the probability of images of one class goes to the other, the most first.

    Parameters
    ----------
    labels : the class of each image, as far as it is known or corrected; UNKNOWN is left out
    pred_probs : P(class) from how the image looks, not from its own label
    """
    shares = np.zeros((pred_probs.shape[1], pred_probs.shape[1]))
    for label in np.unique(labels[labels != UNKNOWN]):
        shares[label] = pred_probs[labels == label].sum(axis=0)
    return class_pairs(shares)


def votes(labels: Labels, nearest: Int[np.ndarray, "N k"], n_classes: int) -> Probs:
    """Share of each class among the labels of each image's neighbours; uniform where none of them has one.

    Parameters
    ----------
    labels : (N,) class index or UNKNOWN
    nearest : (N, k) rows of the neighbours, the image itself not among them
    """
    counts = np.zeros((len(labels), n_classes))
    for neighbours in nearest.T:
        theirs = labels[neighbours]
        known = np.flatnonzero(theirs != UNKNOWN)
        counts[known, theirs[known]] += 1
    total = counts.sum(axis=1)
    counts[total == 0] = 1 / max(n_classes, 1)
    counts /= np.maximum(total, 1)[:, None]  # in place: with a thousand classes there are many
    return counts


def class_pairs(counts: Float[np.ndarray, "K K"]) -> tuple[ClassPair, ...]:
    """All pairs of classes, by the share of their images that is at [one, other] or the reverse."""
    k, totals = len(counts), counts.sum(axis=1)
    wrong = totals - np.diag(counts)
    one, other = np.triu_indices(k, 1)
    # A binomial test of each pair, by Bonferroni.
    level, n = LEVEL / max(len(one), 1), totals[one] + totals[other]
    one, other, n = one[n > 0], other[n > 0], n[n > 0]
    taken = counts[one, other] + counts[other, one]
    expected = (wrong[one] + wrong[other]) / max(k - 1, 1) / n
    p_value = binom.sf(np.floor(taken) - 1, np.round(n), expected)
    unusual = (taken > 0) & (taken / n > expected) & (p_value < level)
    columns = (column.tolist() for column in (one, other, taken / n, expected, unusual))
    pairs = (ClassPair(*values) for values in zip(*columns, strict=True))
    return tuple(sorted(pairs, key=lambda pair: (-pair.share, pair.one, pair.other)))


def findings(found: Audit, names: Sequence[str]) -> Iterator[Finding]:
    """Every finding, kind by kind, the gravest of each kind first."""
    for first, *equal in found.equal:
        yield Finding(names[first], "duplicates", tuple(names[row] for row in equal), 1.0)
    for kind, groups in (
        ("near_duplicates", [group for group in found.near_duplicates if not group.is_exact]),
        ("trusted_conflict", found.trusted_conflicts),
        ("noisy_conflict", found.noisy_conflicts),
    ):
        for group in groups:
            first, *others = group.rows
            yield Finding(names[first], kind, tuple(names[row] for row in others), group.similarity)
    for leak in found.leaks:
        yield Finding(names[leak.row], "leak", tuple(names[row] for row in leak.others), leak.similarity)
    if found.outliers is not None:
        for row in found.outliers.rows.tolist():
            yield Finding(names[row], "outliers", (), float(found.outliers.score[row]))
    for row in found.blank:
        yield Finding(names[row], "no_information", (), 1.0)


def audit_to_json(found: Audit, names: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """The whole audit as plain dicts and lists: counts, every finding, pairs of classes."""
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for row in findings(found, names):
        by_kind[row.kind].append({"file": row.file, "others": list(row.others), "score": round(row.score, 4)})

    def pairs_to_json(pairs: Sequence[ClassPair]) -> list[dict[str, Any]]:
        return [
            {
                "classes": [classes[pair.one], classes[pair.other]],
                "share": pair.share,
                "expected": pair.expected,
                "unusual": pair.is_unusual,
            }
            for pair in pairs[:MOST_PAIRS]
        ]

    return {
        "counts": {kind: len(rows) for kind, rows in by_kind.items()}
        | {"images_in_near_duplicates": found.n_redundant + len(found.near_duplicates)},
        "redundant": found.n_redundant,
        "outliers": found.outliers.to_json() if found.outliers else None,
        "confused_labels": pairs_to_json(found.label_pairs),
        "look_alikes": pairs_to_json(found.look_pairs),
        "findings": by_kind,
    }
