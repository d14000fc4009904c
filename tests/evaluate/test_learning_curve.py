import numpy as np
import pytest

from assay.evaluate.learning_curve import LearningCurve

SIZES = np.array([500, 1_000, 2_000, 4_000])


def curve_of(errors, tested=4_000, seed=0, sizes=SIZES) -> LearningCurve:
    """What would be measured on so many images if these were the true errors."""
    rng = np.random.default_rng(seed)
    right = rng.random((len(sizes), tested)) >= np.array(errors)[:, None]
    return LearningCurve(sizes, right)


def test_the_shape_is_found_again():
    """Without chance the extrapolation is the curve itself, with its floor and without."""
    tested = 1_000_000
    for floor, scale, slope in ((0.05, 2.0, 0.5), (0.0, 3.0, 0.5), (0.1, 30.0, 1.0)):
        errors = floor + scale * SIZES**-slope
        right = np.arange(tested) >= np.round(errors * tested)[:, None]
        found = LearningCurve(SIZES, right).expect(4_000, (8_000, 16_000))
        for one in found:
            assert one.accuracy.estimate == pytest.approx(1 - floor - scale * one.n**-slope, abs=2e-3)


def test_the_interval_holds_what_comes():
    """In 38 of 40 curves or so the true accuracy at four times the labels, and the gain, lie inside."""
    truth = 1 - (0.05 + 2.0 * np.array([4_000, 16_000]) ** -0.5)
    hits, gains = 0, 0
    for seed in range(40):
        one = curve_of(0.05 + 2.0 * SIZES**-0.5, seed=seed).expect(4_000, [16_000])[0]
        hits += one.accuracy.low <= truth[1] <= one.accuracy.high
        gains += one.gain.low <= truth[1] - truth[0] <= one.gain.high
    assert hits >= 35
    assert gains >= 35


def test_more_labels_never_harm():
    """Even where chance made the curve fall, the expected gain is not negative, and no label is no gain."""
    found = curve_of([0.10, 0.11, 0.12, 0.13]).expect(4_000, (4_000, 5_000, 100_000))
    assert found[0].gain.estimate == found[0].gain.low == found[0].gain.high == 0
    assert all(one.gain.low >= 0 and one.gain.estimate >= 0 for one in found)
    assert all(one.accuracy.low <= one.accuracy.estimate <= one.accuracy.high for one in found)


def test_all_right_stays_right():
    """Without any error there is nothing to gain, as far as fifty images show."""
    one = LearningCurve(SIZES, np.ones((4, 50), dtype=bool)).expect(4_000, [8_000])[0]
    assert one.accuracy.estimate == pytest.approx(1)
    assert one.gain.estimate == pytest.approx(0)
    assert 0.9 < one.accuracy.low < 0.999
    assert one.gain.low <= 0 < one.gain.high < 0.1


def test_a_size_at_which_all_were_right_is_not_the_only_one():
    """Sixty of sixty at one size and fifty-four at the next are 95 %, not what the luckier one has."""
    right = np.ones((2, 60), dtype=bool)
    right[1, :6] = False
    (one,) = LearningCurve(np.array([20, 40]), right).expect(40, [120])
    assert one.accuracy.estimate == pytest.approx(0.95, abs=0.01)


def test_one_size_is_no_curve():
    """Nor is one without images."""
    for sizes, right in ((SIZES[:1], np.ones((1, 9), dtype=bool)), (SIZES, np.ones((4, 0), dtype=bool))):
        with pytest.raises(ValueError, match="expected two sizes or more"):
            LearningCurve(sizes, right)


def test_two_sizes_promise_what_is_usual():
    """They fit many slopes exactly; the flattest, which promises most, is not taken."""
    curve = LearningCurve(np.array([33, 66]), np.arange(100) < np.array([[70], [75]]))
    gain = curve.expect(100, [1_600])[0].gain.estimate
    assert gain == pytest.approx(0.074, abs=0.002)


def test_images_in_groups_count_as_fewer():
    """With a design effect of 4 the range is that of a quarter of the images."""
    right = np.arange(2_000) % 10 < np.array([[6], [7], [8], [8]])
    wide, quarter, plain = (
        LearningCurve(SIZES, some, effect).expect(4_000, [8_000])[0].accuracy
        for some, effect in ((right, 4.0), (right[:, :500], 1.0), (right, 1.0))
    )
    assert wide == quarter
    assert wide.high - wide.low > 1.5 * (plain.high - plain.low)
