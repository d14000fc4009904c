"""What an audit found as rows and as JSON, by the names of the images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assay.correct.audit import Audit
from assay.correct.class_pairs import ClassPair
from assay.correct.near_duplicates import NearDuplicates

KINDS = {
    "duplicates": "groups of equal files",
    "near_duplicates": "groups of files that seem to show one picture",
    "trusted_conflict": "groups of copies with different trusted labels",
    "noisy_conflict": "groups of copies with different given labels",
    "leak": "held-out images that are also among the others",
    "outliers": "images unlike those that belong",
    "no_information": "images that show nothing",
}
"""What a finding may be, in the order of the rows."""

MOST_PAIRS = 20
"""Pairs of classes in the JSON: those of a thousand classes are half a million."""


@dataclass(frozen=True)
class Finding:
    """One row of audit.csv."""

    name: str
    """The image; of copies the first one, which may stay when the others go."""
    kind: str
    """One of ``KINDS``."""
    others: tuple[str, ...]
    """The other images that it is about: its copies."""
    score: float
    """Of copies and leaks a cosine in [-1, 1]; of off-topic images how far out they are, above 1; else 1."""


def findings(found: Audit, names: Sequence[str]) -> Iterator[Finding]:
    """Everything that is said of images, kind by kind, the gravest of each kind first."""
    for first, *equal in found.equal:
        yield Finding(names[first], "duplicates", tuple(names[row] for row in equal), 1.0)
    for kind, groups in (
        ("near_duplicates", [group for group in found.near_duplicates if not group.is_exact]),
        ("trusted_conflict", found.trusted_conflicts),
        ("noisy_conflict", found.noisy_conflicts),
    ):
        yield from (_of_group(kind, group, names) for group in groups)
    for leak in found.leaks:
        others = tuple(names[row] for row in leak.others)
        yield Finding(names[leak.row], "leak", others, leak.similarity)
    if found.outliers is not None:
        for row in found.outliers.rows.tolist():
            yield Finding(names[row], "outliers", (), float(found.outliers.score[row]))
    for row in found.blank:
        yield Finding(names[row], "no_information", (), 1.0)


def _of_group(kind: str, group: NearDuplicates, names: Sequence[str]) -> Finding:
    first, *others = (names[row] for row in group.rows)
    return Finding(first, kind, tuple(others), group.similarity)


def audit_to_json(found: Audit, names: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """The whole audit as plain dicts and lists: counts, every finding, pairs of classes."""
    rows = list(findings(found, names))
    counts = {kind: sum(row.kind == kind for row in rows) for kind in KINDS}
    return {
        "counts": counts | {"images_in_near_duplicates": found.n_redundant + len(found.near_duplicates)},
        "redundant": found.n_redundant,
        "outliers": found.outliers.to_json() if found.outliers else None,
        "confused_labels": _of_pairs(found.label_pairs, classes),
        "look_alikes": _of_pairs(found.look_pairs, classes),
        "findings": {
            kind: [
                {"file": row.name, "others": list(row.others), "score": round(row.score, 4)}
                for row in rows
                if row.kind == kind
            ]
            for kind in KINDS
        },
    }


def _of_pairs(pairs: Sequence[ClassPair], classes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "classes": [classes[pair.one], classes[pair.other]],
            "share": pair.share,
            "expected": pair.expected,
            "unusual": pair.is_unusual,
        }
        for pair in pairs[:MOST_PAIRS]
    ]
