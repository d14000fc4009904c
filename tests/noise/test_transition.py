import json

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.data.simulate import symmetric
from assay.errors import LabelError
from assay.noise import count_pairs, estimate_noise
from assay.types import UNKNOWN

TABLES = st.integers(2, 5).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.integers(0, 40)))


def test_pairs_are_counted_at_true_then_given():
    """Rows are the trusted label, columns the given one; an unknown label leaves the image out."""
    noisy, trusted = np.array([1, 1, 0, UNKNOWN, 2]), np.array([0, 0, 2, 1, UNKNOWN])
    assert count_pairs(noisy, trusted, 3).tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


@arbitrary(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), max_size=30))
def test_counting_is_the_plain_loop(rows):
    """The fast count equals the loop that defines it."""
    slow = np.zeros((4, 4), int)
    for noisy, trusted in rows:
        if UNKNOWN not in (noisy, trusted):
            slow[trusted, noisy] += 1
    labels = np.array(rows, dtype=np.int64).reshape(-1, 2)
    assert count_pairs(labels[:, 0], labels[:, 1], 4).tolist() == slow.tolist()


@pytest.mark.parametrize(
    ("noisy", "trusted", "message"),
    [
        (
            [0, 3, 5],
            [0, 1, 2],
            r"noisy\[1\]: expected a class from 0 to 2, or -1 for unknown, got 3 \(2 such",
        ),
        (
            [0, 1, 2],
            [0, 1, -2],
            r"trusted\[2\]: expected a class from 0 to 2, or -1 for unknown, got -2 \(1 such",
        ),
    ],
)
def test_a_label_out_of_range_is_named(noisy, trusted, message):
    """The error says which label of which row cannot be."""
    with pytest.raises(LabelError, match=message):
        count_pairs(np.array(noisy), np.array(trusted), 3)


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_of_different_length_are_refused():
    """Each image needs both entries, known or not."""
    with pytest.raises(ValueError, match=r"expected one length for all, got \{'noisy': 3, 'trusted': 2\}"):
        count_pairs(np.zeros(3, int), np.zeros(2, int), 2)


def test_without_trusted_labels_it_asks_for_some():
    """No pair, no estimate: the error says what to do."""
    message = "got none among 4: check 200 to 500 images picked at random and give their labels as trusted"
    with pytest.raises(LabelError, match=message):
        estimate_noise(np.zeros(4, int), np.full(4, UNKNOWN), 3)


def test_one_class_is_refused():
    """With a single class there is nothing to be wrong about."""
    with pytest.raises(
        LabelError, match="expected at least 2 classes, got 1: with one class no label can be wrong"
    ):
        estimate_noise(np.zeros(4, int), np.zeros(4, int), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, r"level must lie in \(0, 1\), got 1.0"),
        ({"classes": ("cat",)}, "expected 2 class names, got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    """A level outside (0, 1) and too few names are named."""
    with pytest.raises(ValueError, match=message):
        estimate_noise(np.zeros(4, int), np.zeros(4, int), 2, **settings)


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


def test_more_data_narrow_every_interval(pairs_of):
    """Ten times the same pairs are known better, cell by cell, in both forms."""
    for counts in (np.array([[60, 20, 20]] * 3), np.array([[60, 20, 20], [20, 60, 20], [20, 20, 60]])):
        few, many = (estimate_noise(*pairs_of(counts * times), 3) for times in (1, 10))
        assert ((many.high - many.low) < (few.high - few.low)).all()
        assert many.rate.high - many.rate.low < few.rate.high - few.rate.low


def test_symmetric_noise_gets_one_parameter(draw_pairs):
    """When symmetry is not rejected, all off-diagonal cells are equal; a class is known by its own pairs."""
    noise = estimate_noise(*draw_pairs(symmetric(10, 0.6), 5000, seed=1), 10)
    assert noise.form == "symmetric"
    assert len(np.unique(noise.transition)) == 2
    assert noise.transition[0, 0] == pytest.approx(0.4, abs=0.02)
    of_class, of_all = noise.wrong_share_by_class[0], noise.rate
    # A tenth of the pairs: three times as wide.
    assert of_class.high - of_class.low == pytest.approx(np.sqrt(10) * (of_all.high - of_all.low), rel=0.2)


def test_a_class_unlike_the_others_is_within_its_interval(draw_pairs):
    """Few pairs do not tell it apart, and then its interval is as wide as that says."""
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
def test_intervals_hold_the_truth_as_often_as_they_say(draw_pairs, truth):
    """Over 120 draws of 600 pairs, 95 % intervals hold true cells, class rates and rate in over 90 %."""
    cells, classes, rates = [], [], []
    for seed in range(120):
        noise = estimate_noise(*draw_pairs(truth, 600, seed), 5, seed=seed)
        cells.append(((noise.low <= truth) & (truth <= noise.high)).mean())
        wrong = 1 - np.diag(truth)
        classes.append(
            np.mean(
                [one.low <= w <= one.high for one, w in zip(noise.wrong_share_by_class, wrong, strict=True)]
            )
        )
        rates.append(noise.rate.low <= wrong.mean() <= noise.rate.high)
    assert min(np.mean(cells), np.mean(classes), np.mean(rates)) > 0.9


def test_class_rates_are_one_minus_the_diagonal(pairs_of):
    """The noise rate of a class and its interval come from the diagonal of the matrix."""
    noise = estimate_noise(*pairs_of(np.array([[95, 5], [40, 60]])), 2)
    first, second = noise.wrong_share_by_class
    assert first.estimate == pytest.approx(1 - noise.transition[0, 0])
    assert (first.low, first.high) == pytest.approx((1 - noise.high[0, 0], 1 - noise.low[0, 0]))
    assert first.high < second.low


def test_the_rate_is_the_share_that_was_counted(pairs_of):
    """60 of 100 pairs disagree: 60 %."""
    noise = estimate_noise(*pairs_of(np.array([[20, 30], [30, 20]])), 2)
    assert (noise.n_pairs, noise.rate.estimate) == (100, 0.6)


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
    """Thin counts are judged by drawn tables, and those are repeatable."""
    pairs = draw_pairs(symmetric(6, 0.5), 60)
    first, second = (json.dumps(estimate_noise(*pairs, 6, seed=4).to_json()) for _ in range(2))
    assert first == second


def test_a_thousand_classes_of_a_few_pairs(draw_pairs):
    """Thin classes give a finite, possible answer near the truth."""
    noise = estimate_noise(*draw_pairs(symmetric(1000, 0.4), 3000), 1000)
    assert noise.rate.low < 0.4 < noise.rate.high
    assert noise.transition.min() > 0
    assert noise.transition.sum(axis=1) == pytest.approx(1)
