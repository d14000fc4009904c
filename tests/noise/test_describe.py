import numpy as np
import pytest

from assay.noise import describe, estimate_noise
from assay.text import listed, percent
from assay.types import UNKNOWN

NAMES = ("cat", "dog", "fox", "cow")


def estimated(pairs, names=NAMES):
    return estimate_noise(*pairs, len(names), classes=names)


def test_even_noise_is_one_sentence(pairs_of):
    """Rate, interval, and that nothing tells classes apart."""
    counts = np.full((4, 4), 50) + 450 * np.eye(4, dtype=int)
    assert describe(estimated(pairs_of(counts))) == (
        "23.1 % of the labels are wrong (21.5 % to 24.7 %), with no sign that classes differ."
    )


def test_no_noise_is_bounded(pairs_of):
    """No disagreement is no proof: the sentence says how many labels may be wrong all the same."""
    noise = estimated(pairs_of(125 * np.eye(4, dtype=int)))
    assert describe(noise) == "0 of 500 pairs disagree: the labels look right, at most 0.6 % are wrong."
    assert noise.form == "symmetric"
    assert noise.notes == ()


def test_two_classes_that_are_swapped_are_named(pairs_of):
    """A class always called by another's name, and the reverse, is said so."""
    counts = np.array([[0, 99, 0, 0], [99, 0, 0, 0], [0, 0, 99, 0], [0, 0, 0, 99]])
    noise = estimated(pairs_of(counts))
    assert describe(noise) == (
        "50.0 % of the labels are wrong (45.1 % to 54.9 %), not in the same way for all classes. "
        "Swapped: 'cat' is always called 'dog' and the reverse. "
        "The share differs by class, from 0.5 % ('fox') to 99.5 % ('cat')."
    )
    assert noise.transition[0].argmax() == 1


def test_two_classes_in_all_swapped(pairs_of):
    """When all labels of two classes are exchanged, words and note both say so."""
    noise = estimated(pairs_of(np.array([[0, 200], [200, 0]])), ("cat", "dog"))
    assert describe(noise) == (
        "100.0 % of the labels are wrong (99.3 % to 100.0 %). "
        "Swapped: 'cat' is always called 'dog' and the reverse."
    )
    assert noise.transition[0, 1] > 0.99
    assert noise.notes == (
        "Noisy and trusted labels agree less often than by chance (0.0 %; chance: 50.0 %): "
        "check that both files list the images in the same order and use the same class names.",
    )


def test_of_two_classes_the_worse_one_is_named_as_soon_as_they_differ(pairs_of):
    """One test was made, so its limit is that of the whole."""
    noise = estimated(pairs_of(np.array([[80, 20], [10, 90]])), ("cat", "dog"))
    assert 0.025 < noise.structure.same_rate.p_value < 0.05
    assert "The share differs by class, from 12.6 % ('dog') to 17.6 % ('cat')." in describe(noise)


def test_one_class_wholly_wrong_is_named(pairs_of):
    """Every image of one class is called another; the other classes are right."""
    counts = np.array([[0, 0, 90, 10], [0, 100, 0, 0], [0, 0, 100, 0], [0, 0, 0, 100]])
    assert describe(estimated(pairs_of(counts))) == (
        "25.0 % of the labels are wrong (20.9 % to 29.4 %), not in the same way for all classes. "
        "Renamed: 'cat' is mostly called 'fox'. "
        "The share differs by class, from 0.2 % ('dog') to 99.3 % ('cat')."
    )


def test_a_pair_flip_is_described(pairs_of):
    """Wrong labels that go to one other class each are said to."""
    counts = 70 * np.eye(4, dtype=int) + 30 * np.roll(np.eye(4, dtype=int), 1, axis=1)
    assert describe(estimated(pairs_of(counts))) == (
        "30.0 % of the labels are wrong (25.7 % to 34.6 %), not in the same way for all classes. "
        "The wrong labels of a class go mostly to one other class, first of all 'cat' called 'dog' "
        "(30.0 % of them)."
    )


def test_the_most_common_mistake_is_named(pairs_of):
    """An uneven spread is shown by its largest cell."""
    counts = np.array([[80, 60, 10, 10], [12, 120, 14, 14], [12, 13, 120, 15], [14, 15, 11, 120]])
    assert "the most common mistake is 'cat' called 'dog' (3" in describe(estimated(pairs_of(counts)))


def test_a_mistake_of_two_images_is_not_the_most_common(pairs_of):
    """Neither is a class that has two the worst."""
    counts = np.array([[700, 300, 0, 0], [0, 1_000, 0, 0], [5, 5, 990, 0], [2, 0, 0, 0]])
    words = describe(estimated(pairs_of(counts)))
    assert "'cat' called 'dog' (30.0 % of them)" in words
    assert "from 0.014 % ('dog') to 30.0 % ('cat')" in words


def test_lopsided_classes_agree_by_chance(draw_pairs):
    """Nine in ten of one class: labels in any order agree on four in five."""
    rng = np.random.default_rng(0)
    truth = (rng.random(1_000) < 0.1).astype(np.int64)
    shuffled = estimate_noise(rng.permutation(truth), truth, 2)
    assert any("no more often than by chance" in note for note in shuffled.notes)
    wrong = np.where(rng.random(1_000) < 0.05, 1 - truth, truth)
    assert estimate_noise(wrong, truth, 2).notes == ()


def test_labels_no_better_than_chance_are_warned_of(draw_pairs):
    """Given labels that have nothing to do with the trusted ones point to files out of step."""
    noise = estimated(draw_pairs(np.full((4, 4), 0.25), 400))
    assert len(noise.notes) == 1
    assert noise.notes[0].startswith("Noisy and trusted labels agree no more often than by chance (")


def test_every_pair_wrong_is_degraded_not_broken(draw_pairs):
    """100 % disagreement, evenly spread, gives a matrix that is all off the diagonal."""
    noise = estimated(draw_pairs((1 - np.eye(4)) / 3, 400))
    assert describe(noise) == (
        "100.0 % of the labels are wrong (99.3 % to 100.0 %), with no sign that classes differ."
    )
    assert "agree less often than by chance (0.0 %; chance: 25.0 %)" in noise.notes[0]
    assert (np.diag(noise.transition) > 0).all()


def test_one_trusted_image_is_a_guess_that_says_so():
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


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.6031, "60.3 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (0.00042, "0.042 %"), (3e-6, "0.0003 %")],
)
def test_a_share_is_written_in_percent(share, words):
    """One decimal, and two digits for what would else read as nothing."""
    assert percent(share) == words


def test_long_lists_are_counted():
    """One, two, and more than five words."""
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_a_class_of_five_is_not_called_the_best_or_the_worst(pairs_of):
    """Shares are those of the transition, which leans on the other classes where there are few pairs."""
    counts = np.array([[900, 100, 0, 0], [500, 500, 0, 0], [0, 0, 5, 0], [0, 1, 3, 1]])
    words = describe(estimated(pairs_of(counts)))
    assert "from 0.0 %" not in words
    assert "to 80.0 %" not in words
