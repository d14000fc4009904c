import numpy as np
import pytest
from scipy.stats import binom

from assay.correct.audit import (
    KINDS,
    LEVEL,
    ClassPair,
    Finding,
    audit,
    audit_to_json,
    class_pairs,
    findings,
    look_alikes,
    votes,
)
from assay.noise import count_pairs
from assay.types import UNKNOWN

N = 900
NAMES = [f"{row}.png" for row in range(N)]


@pytest.fixture
def images():
    """Arguments of ``audit``: three classes of 300; faults are planted at rows that the tests name."""
    generator = np.random.default_rng(0)
    truth = np.arange(N) % 3
    features = generator.normal(size=(N, 30)) + 2 * np.eye(3, 30)[truth]
    features[10] = features[700] + 0.05 * generator.normal(size=30)
    features[21] = features[20]
    features[40:50] = features[40]
    features[60] *= 6
    features[80] = 0
    contents = [row.to_bytes(32, "big") for row in range(N)]
    contents[21] = contents[20]
    noisy = truth.copy()
    noisy[21] = (truth[20] + 1) % 3
    return {
        "views": (features.astype(np.float16), features.astype(np.float16)),
        "contents": contents,
        "noisy": noisy,
        "trusted": np.where(np.arange(N) >= 600, truth, UNKNOWN),
        "usable": np.arange(N) != 80,
        "holdout": np.isin(np.arange(N), (10, 11, 12)),
        "n_classes": 3,
        "flags": {90: ("low_information",), 91: ("animated",)},
    }


def test_each_fault_is_found(images):
    """Near-duplicates, the conflict and the leak that follow from them, the outlier, the blank ones."""
    found = audit(**images)
    assert [group.rows for group in found.near_duplicates] == [tuple(range(40, 50)), (10, 700), (20, 21)]
    assert [group.is_exact for group in found.near_duplicates] == [False, False, True]
    assert found.n_redundant == 11
    assert [group.rows for group in found.noisy_conflicts] == [tuple(range(40, 50)), (20, 21)]
    assert found.trusted_conflicts == ()
    assert [(leak.row, leak.others) for leak in found.leaks] == [(10, (700,))]
    assert 0.98 < found.leaks[0].similarity <= 1
    assert found.outliers.rows.tolist() == [60]
    assert found.blank == (*range(40, 50), 90)


def test_a_conflict_of_trusted_labels_and_no_leak_within_the_holdout(images):
    """Two near-duplicates may have two trusted labels; two of the holdout are no leak."""
    images["trusted"][[20, 21]] = [0, 1]
    images["holdout"][[20, 21, 700]] = True
    found = audit(**images)
    assert [group.rows for group in found.trusted_conflicts] == [(20, 21)]
    assert found.leaks == ()


def test_of_a_picture_many_times_the_nearest_near_duplicates_are_named(images):
    """A holdout image of forty names ten others, and the group names all."""
    features = images["views"][0].astype(np.float32)
    spread = np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32)
    features[100:140] = features[100] + 0.01 * np.arange(40)[:, None] * spread
    images["holdout"][100] = True
    found = audit(**images | {"views": (features,)})
    (leak,) = [leak for leak in found.leaks if leak.row == 100]
    assert len(leak.others) == 10
    assert np.mean(leak.others) < 115
    (group,) = [group for group in found.near_duplicates if 100 in group.rows]
    assert {*leak.others} < {*group.rows}


def test_skipped_images_change_nothing_and_the_audit_is_repeatable(images):
    """Features of a skipped image have no effect, and the same seed gives the same findings."""
    wild = images["views"][0].copy()
    wild[80] = 60_000
    one, other = (audit(**images | {"views": views}) for views in (images["views"], (wild, wild)))
    assert [*findings(one, NAMES)] == [*findings(other, NAMES)]


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_few_images_are_audited_too(n):
    """Down to none."""
    views, unknown = (np.random.default_rng(0).normal(size=(n, 4)),), np.full(n, UNKNOWN)
    all_rows = np.ones(n, bool)
    found = audit(views, [None] * n, unknown, unknown, usable=all_rows, holdout=~all_rows, n_classes=0)
    assert (found.near_duplicates, found.leaks, found.outliers, found.blank) == ((), (), None, ())


def test_lengths_must_agree(images):
    """One row of everything for each image."""
    with pytest.raises(ValueError, match="expected one length for all"):
        audit(**images | {"contents": images["contents"][:-1]})


def test_findings_are_rows_and_json(images):
    """One row each in the order of the kinds, of near-duplicates the first file with the others beside it."""
    found = audit(**images)
    rows = list(findings(found, NAMES))
    kinds = [row.kind for row in rows]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert rows[0] == Finding("20.png", "duplicates", ("21.png",), 1.0)
    assert [row.others for row in rows if row.kind == "outliers"] == [()]
    facts = audit_to_json(found, NAMES, ("ash", "birch", "cedar"))
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
        {"file": "10.png", "others": ["700.png"], "score": pytest.approx(1, abs=0.02)}
    ]
    assert facts["look_alikes"][0].keys() == {"classes", "share", "expected", "unusual"}
    assert {*facts["look_alikes"][0]["classes"]} < {"ash", "birch", "cedar"}


def test_equal_files_are_found_whatever_group_they_are_in(images):
    """A group of near-duplicates may hold two files that are equal byte for byte."""
    near = next(group for group in audit(**images).near_duplicates if not group.is_exact)
    third = next(row for row in range(N) if row not in near.rows and row not in (20, 21))
    images["contents"][near.rows[0]] = images["contents"][third] = b"equal"
    found = audit(**images)
    assert found.equal == tuple(sorted([(20, 21), tuple(sorted((near.rows[0], third)))]))
    rows = [row for row in findings(found, NAMES) if row.kind == "duplicates"]
    assert [(row.file, row.others) for row in rows] == [
        (NAMES[one], (NAMES[other],)) for one, other in found.equal
    ]


def test_even_noise_makes_no_unusual_pair_of_classes():
    """Where wrong labels fall on all classes alike, no pair is called unusual."""
    generator = np.random.default_rng(0)
    trusted = generator.integers(6, size=6000)
    noisy = np.where(generator.random(6000) < 0.4, generator.integers(6, size=6000), trusted)
    pairs = class_pairs(count_pairs(noisy, trusted, 6).astype(float))
    assert len(pairs) == 15
    assert not any(pair.is_unusual for pair in pairs)


def test_a_confused_pair_of_classes_comes_first():
    """Both ways together, in the share of the images of both classes."""
    first, *others = class_pairs(np.array([[70.0, 30, 0], [10, 90, 0], [0, 0, 100]]))
    assert first == ClassPair(0, 1, 0.2, 0.1, True)
    assert [pair.share for pair in others] == [0, 0]


def test_classes_that_look_alike_are_found_by_neighbours():
    """A vote is the share of each class among the neighbours; a pair is by the votes for the other class."""
    nearest = np.array([[1, 2], [0, 2], [3, 0], [3, 3]])
    found = votes(np.array([0, 1, 1, UNKNOWN]), nearest, 2)
    np.testing.assert_allclose(found, [[0, 1], [0.5, 0.5], [1, 0], [0.5, 0.5]])
    labels = np.arange(4000) % 4
    pred_probs = 0.8 * np.eye(4)[labels] + 0.05
    pred_probs[labels == 2] = [0.02, 0.02, 0.66, 0.3]
    first, *_ = look_alikes(labels, pred_probs)
    assert (first.one, first.other, first.is_unusual) == (2, 3, True)
    assert first.share == pytest.approx((0.3 + 0.05) / 2, abs=0.01)


def test_pairs_of_classes_are_those_of_each_count():
    """The fast pairs equal the loop that defines them; a class without images is in no pair."""
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 9, (12, 12)) * (generator.random((12, 12)) < 0.5)
    found = {(pair.one, pair.other): pair for pair in class_pairs(counts.astype(float))}
    totals, wrong = counts.sum(axis=1), counts.sum(axis=1) - np.diag(counts)
    for (one, other), pair in found.items():
        n, taken = totals[one] + totals[other], counts[one, other] + counts[other, one]
        chance = (wrong[one] + wrong[other]) / 11 / n
        unusual = taken > n * chance and binom.sf(taken - 1, n, chance) < LEVEL / 66
        assert pair == ClassPair(one, other, taken / n, chance, bool(unusual))
    assert len(found) == 66
    pairs = class_pairs(np.diag([2.0, 0, 0]))
    assert [(pair.one, pair.other, pair.share) for pair in pairs] == [(0, 1, 0), (0, 2, 0)]
    assert class_pairs(np.array([[3.0]])) == ()
