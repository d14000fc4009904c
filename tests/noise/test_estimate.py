import json

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.data.simulate import spoil, symmetric
from assay.errors import LabelError
from assay.noise import describe, estimate_noise
from assay.types import UNKNOWN

NAMES = ("cat", "dog", "fox", "cow")
TABLES = st.integers(2, 5).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.integers(0, 40)))
FLIP = 70 * np.eye(4, dtype=int) + 30 * np.roll(np.eye(4, dtype=int), 1, axis=1)


def estimated(pairs, names=NAMES):
    return estimate_noise(*pairs, len(names), classes=names)


@pytest.mark.parametrize(
    ("trusted", "n_classes", "settings", "error", "message"),
    [
        (UNKNOWN, 3, {}, LabelError, "got none among 4: check 200 to 500 images picked at random and give"),
        (0, 1, {}, LabelError, "expected at least 2 classes, got 1: with one class no label can be wrong"),
        (0, 2, {"level": 1.0}, ValueError, r"level must lie in \(0, 1\), got 1.0"),
        (0, 2, {"classes": ("cat",)}, ValueError, "expected 2 class names, got 1"),
    ],
)
def test_what_cannot_be_estimated_is_refused(trusted, n_classes, settings, error, message):
    """No pair, a single class, a level outside (0, 1) and too few names; the error has the remedy."""
    with pytest.raises(error, match=message):
        estimate_noise(np.zeros(4, int), np.full(4, trusted), n_classes, **settings)


@arbitrary(TABLES.filter(np.any))
def test_the_estimate_is_made_of_probabilities(pairs_of, counts):
    """Rows and prior sum to 1, all cells are possible and lie in their interval."""
    noise = estimate_noise(*pairs_of(counts), len(counts))
    assert noise.transition.sum(axis=1) == pytest.approx(1)
    assert noise.prior.sum() == pytest.approx(1)
    assert min(noise.transition.min(), noise.prior.min()) > 0
    assert (noise.low >= 0).all()
    assert (noise.low <= noise.transition + 1e-12).all()
    assert (noise.transition <= noise.high + 1e-12).all()
    assert (noise.high <= 1).all()
    assert noise.rate.low <= noise.rate.estimate <= noise.rate.high


def test_permuting_the_classes_permutes_the_answer(pairs_of):
    """Class numbers carry no meaning."""
    counts = np.array([[90, 30, 2], [5, 70, 25], [9, 9, 60]])
    order = np.array([2, 0, 1])
    noise = estimate_noise(*pairs_of(counts), 3)
    moved = estimate_noise(*pairs_of(counts[np.ix_(order, order)]), 3)
    assert moved.form == noise.form == "full"
    for name in ("transition", "low", "high"):
        assert getattr(moved, name) == pytest.approx(getattr(noise, name)[np.ix_(order, order)], rel=1e-4)
    assert moved.prior == pytest.approx(noise.prior[order], rel=1e-4)


def test_a_class_unlike_the_others_is_within_its_interval(draw_pairs):
    """Few pairs do not show the difference, and then its interval is as wide as it must be."""
    truth = np.array([symmetric(10, 0.5 if i == 0 else 0.25)[i] for i in range(10)])
    found = [estimate_noise(*draw_pairs(truth, 200, seed), 10, seed=seed) for seed in range(60)]
    assert sum(noise.form == "symmetric" for noise in found) > 20
    held = [noise.wrong_share_by_class[0].low <= 0.5 <= noise.wrong_share_by_class[0].high for noise in found]
    assert np.mean(held) > 0.88


TRUTHS = {
    "symmetric": symmetric(5, 0.6),
    "two look alike": symmetric(5, 0.1) + np.outer([0, 0, 0, 0.3, 0], [0, 0, 0, -1, 1]),
    "own rates": np.array([symmetric(5, 0.1 + 0.15 * i)[i] for i in range(5)]),
}


@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
def test_intervals_hold_the_truth_as_often_as_stated(draw_pairs, truth):
    """Over 120 draws of 600 pairs, 95 % intervals hold true cells, class rates and rate in over 90 %."""
    cells, classes, rates = [], [], []
    for seed in range(120):
        noise = estimate_noise(*draw_pairs(truth, 600, seed), 5, seed=seed)
        cells.append(((noise.low <= truth) & (truth <= noise.high)).mean())
        wrong = 1 - np.diag(truth)
        by_class = zip(noise.wrong_share_by_class, wrong, strict=True)
        classes.append(np.mean([one.low <= share <= one.high for one, share in by_class]))
        rates.append(noise.rate.low <= wrong.mean() <= noise.rate.high)
    assert min(np.mean(cells), np.mean(classes), np.mean(rates)) > 0.9


def test_json_is_plain_and_complete(pairs_of):
    """What is written is numbers, lists and words, and reads back equal."""
    noise = estimate_noise(*pairs_of(np.array([[95, 5], [40, 60]])), 2, classes=("cat", "dog"))
    written = noise.to_json()
    assert json.loads(json.dumps(written)) == written
    assert written["classes"] == ["cat", "dog"]
    assert written["counts"] == [[95, 5], [40, 60]]
    assert written["transition"] == noise.transition.tolist()
    assert written["form"] == "full"
    assert written["symmetry"]["rejected"] is True


def test_the_same_seed_gives_the_same_bytes(draw_pairs):
    """Thin counts are tested by drawn tables, which are repeatable."""
    pairs = draw_pairs(symmetric(6, 0.5), 60)
    first, second = (json.dumps(estimate_noise(*pairs, 6, seed=4).to_json()) for _ in range(2))
    assert first == second


def test_a_thousand_classes_of_a_few_pairs(draw_pairs):
    """Thin classes give a finite, possible answer near the truth."""
    noise = estimate_noise(*draw_pairs(symmetric(1000, 0.4), 3000), 1000)
    assert noise.rate.low < 0.4 < noise.rate.high
    assert noise.transition.min() > 0
    assert noise.transition.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("counts", "sentences"),
    [
        (
            np.full((4, 4), 50) + 450 * np.eye(4, dtype=int),
            "23.1 % of the labels are wrong (21.5 % to 24.7 %), with no sign that classes differ. "
            "Counted: 600 of 2,600 checked labels.",
        ),
        (
            125 * np.eye(4, dtype=int),
            "0 of 500 pairs disagree: the labels look right, at most 0.6 % are wrong.",
        ),
        (
            np.array([[0, 99, 0, 0], [99, 0, 0, 0], [0, 0, 99, 0], [0, 0, 0, 99]]),
            "50.0 % of the labels are wrong (45.1 % to 54.9 %), more in some classes than in others. "
            "Swapped: 'cat' is always called 'dog' and the reverse. "
            "The share differs by class, from 0 of 99 ('fox') to 99 of 99 ('cat'). "
            "Counted: 198 of 396 checked labels.",
        ),
        (
            np.array([[0, 200], [200, 0]]),
            "100.0 % of the labels are wrong (99.3 % to 100.0 %). "
            "Swapped: 'cat' is always called 'dog' and the reverse. Counted: 400 of 400 checked labels.",
        ),
        (
            np.array([[0, 0, 90, 10], [0, 100, 0, 0], [0, 0, 100, 0], [0, 0, 0, 100]]),
            "25.0 % of the labels are wrong (20.9 % to 29.4 %), more in some classes than in others. "
            "Renamed: 'cat' is mostly called 'fox'. "
            "The share differs by class, from 0 of 100 ('dog') to 100 of 100 ('cat'). "
            "Counted: 100 of 400 checked labels.",
        ),
        (
            FLIP,
            "30.0 % of the labels are wrong (25.7 % to 34.6 %), with no sign that some classes have more "
            "of them. The wrong labels of a class go mostly to one other class, first of all 'cat' called "
            "'dog' (30.0 % of them). Counted: 120 of 400 checked labels.",
        ),
    ],
    ids=["even", "none", "swapped", "both swapped", "one class wrong", "pair flip"],
)
def test_the_noise_is_described(pairs_of, counts, sentences):
    """Rate and interval, swapped and renamed classes, and how classes differ."""
    noise = estimated(pairs_of(counts), NAMES[: len(counts)])
    assert describe(noise) == sentences
    assert repr(noise) == f"Noise({counts.sum():,} pairs: {sentences})"


def test_the_most_common_mistake_is_named(pairs_of):
    """An uneven spread is shown by its largest cell."""
    counts = np.array([[80, 60, 10, 10], [12, 120, 14, 14], [12, 13, 120, 15], [14, 15, 11, 120]])
    assert "the most common mistake is 'cat' called 'dog' (3" in describe(estimated(pairs_of(counts)))


def test_a_mistake_of_two_images_is_not_the_most_common(pairs_of):
    """Neither is a class that has two the worst."""
    counts = np.array([[700, 300, 0, 0], [0, 1_000, 0, 0], [5, 5, 990, 0], [2, 0, 0, 0]])
    words = describe(estimated(pairs_of(counts)))
    assert "'cat' called 'dog' (30.0 % of them)" in words
    assert "from 0 of 1,000 ('dog') to 300 of 1,000 ('cat')" in words


def test_a_class_of_five_shows_how_few_it_has(pairs_of):
    """Classes are ranked by the transition, which leans on the others where there are few pairs."""
    counts = np.array([[900, 100, 0, 0], [500, 500, 0, 0], [0, 0, 5, 0], [0, 1, 3, 1]])
    words = describe(estimated(pairs_of(counts)))
    assert "from 100 of 1,000 ('cat') to 4 of 5 ('cow')" in words


def test_lopsided_classes_agree_by_chance(draw_pairs):
    """Nine in ten of one class: labels in any order agree on four in five."""
    rng = np.random.default_rng(0)
    truth = (rng.random(1_000) < 0.1).astype(np.int64)
    shuffled = estimate_noise(rng.permutation(truth), truth, 2)
    assert any("no more often than by chance" in note for note in shuffled.notes)
    wrong = np.where(rng.random(1_000) < 0.05, 1 - truth, truth)
    assert estimate_noise(wrong, truth, 2).notes == ()


def test_every_pair_wrong_is_degraded_not_broken(draw_pairs):
    """100 % disagreement, evenly spread, gives a matrix that is all off the diagonal."""
    noise = estimated(draw_pairs((1 - np.eye(4)) / 3, 400))
    assert describe(noise) == (
        "100.0 % of the labels are wrong (99.3 % to 100.0 %), with no sign that classes differ. "
        "Counted: 400 of 400 checked labels."
    )
    assert "agree less often than by chance (0.0 %; chance: 25.0 %)" in noise.notes[0]
    assert (np.diag(noise.transition) > 0).all()


def test_one_trusted_image_gives_a_guess_and_notes():
    """One pair gives a wide interval and notes of all that is missing."""
    trusted = np.array([2, UNKNOWN, UNKNOWN])
    noise = estimated((np.array([2, 1, 0]), trusted))
    assert describe(noise) == "0 of 1 pair disagrees: the labels look right, at most 95.0 % are wrong."
    assert noise.notes == (
        "Only 1 image carries both labels: all figures are rough. "
        "200 to 500 trusted labels would settle them.",
        "No trusted image of 'cat', 'dog' and 'cow': assumed to be like the average class. "
        "Add trusted images of it.",
        "Fewer than 5 trusted images of 'fox': estimated with the other classes.",
    )


def test_a_class_absent_from_the_trusted_images_is_named(pairs_of):
    """It gets the average row, an interval that admits ignorance, and a note."""
    counts = np.array([[90, 5, 5, 0], [30, 60, 5, 5], [0, 0, 0, 0], [1, 0, 0, 0]])
    noise = estimated(pairs_of(counts))
    assert noise.form == "full"
    assert (noise.low[2] == 0).all()
    assert (noise.high[2] == 1).all()
    assert noise.transition[2, 2] == pytest.approx(1 - 51.5 / 202, abs=1e-6)
    assert noise.notes == (
        "No trusted image of 'fox': assumed to be like the average class. Add trusted images of it.",
        "Fewer than 5 trusted images of 'cow': estimated with the other classes.",
    )


def test_symmetric_noise_gets_one_parameter(draw_pairs):
    """When symmetry is not rejected, all off-diagonal cells are equal; a class is known by its own pairs."""
    noise = estimate_noise(*draw_pairs(symmetric(10, 0.6), 5000, seed=1), 10)
    assert noise.form == "symmetric"
    assert len(np.unique(noise.transition)) == 2
    assert noise.transition[0, 0] == pytest.approx(0.4, abs=0.02)
    of_class, of_all = noise.wrong_share_by_class[0], noise.rate
    # A tenth of the pairs: three times as wide.
    assert of_class.high - of_class.low == pytest.approx(np.sqrt(10) * (of_all.high - of_all.low), rel=0.2)


def test_intervals_by_groups_are_wider_where_groups_are_wrong_together():
    """Half of the groups have right labels alone: neither rate nor class is known as well as by images, and
    what looks like a difference between classes may be one between groups.
    """
    generator = np.random.default_rng(0)
    groups = np.arange(800) // 20
    trusted = np.where(groups % 4 == 3, 3, generator.integers(0, 4, 800))
    wrong = generator.random(800) < np.where(groups % 2, 0.7, 0.0)
    noisy = np.where(wrong, (trusted + 1) % 4, trusted)
    plain, found = (estimate_noise(noisy, trusted, 4, groups=of) for of in (None, groups))
    assert found.rate.estimate == plain.rate.estimate
    assert found.rate.high - found.rate.low > 2 * (plain.rate.high - plain.rate.low)
    assert (found.high - found.low >= plain.high - plain.low - 1e-12).all()
    assert found.structure.same_rate.statistic < plain.structure.same_rate.statistic / 4
    assert (found.to_json()["groups"], "groups" in plain.to_json()) == (40, False)


def predictions(truth, seed=0):
    """P(true | image) of classifiers that are right for nine of ten images."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(truth), 4)) + 3 * np.eye(4)[truth]
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def test_predictions_alone_give_a_bracket():
    """Without any trusted label the rate has ends without a probability, and the matrix is near the truth."""
    truth = np.random.default_rng(0).integers(0, 4, 8_000)
    noisy = spoil(truth, symmetric(4, 0.3), 0)
    found = estimate_noise(noisy, np.full(8_000, UNKNOWN), 4, pred_probs=predictions(truth))
    assert found.rate.low - 0.02 < 0.3 < found.rate.high + 0.02
    assert found.rate.high - found.rate.low < 0.15
    assert (found.rate.level, found.n_pairs) == (0.0, 0)
    np.testing.assert_allclose(found.transition, symmetric(4, 0.3), atol=0.1)
    assert describe(found).startswith("Predictions call ")
    assert "No trusted label shows how wrong the labels are" in found.notes[0]


def test_predictions_sharpen_the_rate_of_few_pairs():
    """A hundred trusted labels with predictions: a narrower interval around a closer estimate."""
    truth = np.random.default_rng(1).integers(0, 4, 8_000)
    noisy = spoil(truth, symmetric(4, 0.3), 1)
    trusted = np.where(np.arange(8_000) < 100, truth, UNKNOWN)
    plain = estimate_noise(noisy, trusted, 4).rate
    found = estimate_noise(noisy, trusted, 4, pred_probs=predictions(truth)).rate
    assert found.high - found.low < 0.75 * (plain.high - plain.low)
    assert found.low < np.mean(noisy != truth) < found.high
