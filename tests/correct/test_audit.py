"""A whole audit of images with known faults."""

from dataclasses import replace

import numpy as np
import pytest

from assay.correct.audit import Subject, audit
from assay.correct.findings import KINDS, Finding, audit_to_json, findings
from assay.types import UNKNOWN

N = 900


@pytest.fixture
def subject():
    """Three classes of 300; faults are planted at rows that the tests name."""
    generator = np.random.default_rng(0)
    truth = np.arange(N) % 3
    features = generator.normal(size=(N, 30)) + 2 * np.eye(3, 30)[truth]
    features[10] = features[700] + 0.05 * generator.normal(size=30)
    features[21] = features[20]
    features[40:50] = features[40]
    features[60] *= 6
    contents = [row.to_bytes(32, "big") for row in range(N)]
    contents[21] = contents[20]
    holdout = np.zeros(N, bool)
    holdout[[10, 11, 12]] = True
    trusted = np.where(np.arange(N) >= 600, truth, UNKNOWN)
    noisy = truth.copy()
    noisy[21] = (truth[20] + 1) % 3
    noisy[20] = truth[20]
    usable = np.ones(N, bool)
    usable[80] = False
    features[80] = 0
    return Subject(
        views=(features.astype(np.float16), features.astype(np.float16)),
        contents=contents,
        noisy=noisy,
        trusted=trusted,
        usable=usable,
        holdout=holdout,
        n_classes=3,
        flags={90: ("low_information",), 91: ("animated",)},
    )


def test_each_fault_is_found(subject):
    """Copies, the conflict and the leak that follow from them, the stranger, the blank ones, and no other."""
    found = audit(subject)
    assert [group.rows for group in found.near_duplicates] == [tuple(range(40, 50)), (10, 700), (20, 21)]
    assert [group.is_exact for group in found.near_duplicates] == [False, False, True]
    assert found.n_redundant == 11
    assert [group.rows for group in found.noisy_conflicts] == [tuple(range(40, 50)), (20, 21)]
    assert found.trusted_conflicts == ()
    assert [(leak.row, leak.others) for leak in found.leaks] == [(10, (700,))]
    assert 0.98 < found.leaks[0].similarity <= 1
    assert found.outliers.rows.tolist() == [60]
    assert found.blank == (*range(40, 50), 90)


def test_a_conflict_of_trusted_labels_is_named(subject):
    """Two copies that a person has labelled in two ways."""
    trusted = subject.trusted.copy()
    trusted[[20, 21]] = [0, 1]
    assert [group.rows for group in audit(replace(subject, trusted=trusted)).trusted_conflicts] == [(20, 21)]


def test_two_held_out_copies_are_no_leak(subject):
    """Nothing was learned from either."""
    holdout = subject.holdout.copy()
    holdout[[20, 21, 700]] = True
    assert audit(replace(subject, holdout=holdout)).leaks == ()


def test_of_a_picture_many_times_the_nearest_copies_are_named(subject):
    """A held-out one of forty names ten others, and the group names all."""
    features = subject.views[0].astype(np.float32)
    spread = np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32)
    features[100:140] = features[100] + 0.01 * np.arange(40)[:, None] * spread
    holdout = subject.holdout.copy()
    holdout[100] = True
    found = audit(replace(subject, views=(features,), holdout=holdout))
    (leak,) = [leak for leak in found.leaks if leak.row == 100]
    assert len(leak.others) == 10
    assert np.mean(leak.others) < 115
    (group,) = [group for group in found.near_duplicates if 100 in group.rows]
    assert {*leak.others} < {*group.rows}


def test_skipped_images_change_nothing(subject):
    """Whatever their features are, nothing is said of them or of others because of them."""
    wild = subject.views[0].copy()
    wild[80] = 60_000
    names = [str(row) for row in range(N)]
    assert [*findings(audit(replace(subject, views=(wild, wild))), names)] == [
        *findings(audit(subject), names)
    ]


def test_the_same_seed_gives_the_same_audit(subject):
    """Nothing depends on chance but the samples, and they depend on the seed."""
    names = [str(row) for row in range(N)]
    assert audit_to_json(audit(subject), names, ("ash", "birch", "cedar")) == audit_to_json(
        audit(subject), names, ("ash", "birch", "cedar")
    )


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_few_images_are_audited_too(n):
    """Down to none."""
    views = (np.random.default_rng(0).normal(size=(n, 4)),)
    unknown = np.full(n, UNKNOWN)
    subject = Subject(views, [None] * n, unknown, unknown, np.ones(n, bool), np.zeros(n, bool), 0)
    found = audit(subject)
    assert (found.near_duplicates, found.leaks, found.outliers, found.blank) == ((), (), None, ())


def test_lengths_must_agree(subject):
    """One row of everything for each image."""
    with pytest.raises(ValueError, match="expected one length for all"):
        replace(subject, contents=subject.contents[:-1])


def test_findings_are_in_the_order_of_their_kinds(subject):
    """One row each, of copies the first name with the others beside it."""
    rows = list(findings(audit(subject), [f"{row}.png" for row in range(N)]))
    assert [row.kind for row in rows] == sorted((row.kind for row in rows), key=list(KINDS).index)
    assert rows[0] == Finding("20.png", "duplicates", ("21.png",), 1.0)
    assert [row.name for row in rows if row.kind == "leak"] == ["10.png"]
    assert [row.others for row in rows if row.kind == "outliers"] == [()]


def test_json_holds_everything(subject):
    """Counts, findings and pairs of classes, as plain values."""
    facts = audit_to_json(audit(subject), [f"{row}.png" for row in range(N)], ("ash", "birch", "cedar"))
    assert facts["counts"] == {
        "duplicates": 1,
        "near_duplicates": 2,
        "trusted_conflict": 0,
        "noisy_conflict": 2,
        "leak": 1,
        "outliers": 1,
        "no_information": 11,
        "images_in_near_duplicates": 14,
    }
    assert facts["redundant"] == 11
    assert facts["findings"]["leak"] == [
        {"name": "10.png", "others": ["700.png"], "score": pytest.approx(1, abs=0.02)}
    ]
    assert facts["look_alikes"][0].keys() == {"classes", "share", "expected", "unusual"}
    assert {*facts["look_alikes"][0]["classes"]} < {"ash", "birch", "cedar"}


def test_equal_files_are_told_whatever_group_they_are_in(subject):
    """A group of files that seem to show one picture may hold two that are equal byte for byte."""
    names = [f"{row}.png" for row in range(N)]
    near = next(group for group in audit(subject).near_duplicates if not group.is_exact)
    contents = list(subject.contents)
    third = next(row for row in range(N) if row not in near.rows and row not in (20, 21))
    contents[near.rows[0]] = contents[third] = b"equal"
    found = audit(replace(subject, contents=contents))
    assert found.equal == tuple(sorted([(20, 21), tuple(sorted((near.rows[0], third)))]))
    rows = [row for row in findings(found, names) if row.kind == "duplicates"]
    assert [(row.name, row.others) for row in rows] == [
        (names[one], (names[other],)) for one, other in found.equal
    ]
