"""Outliers among images that belong."""

import numpy as np
import pytest

from assay.correct.outliers import find_outliers

D = 20


def draw(n, seed):
    """Images that belong: two kinds of them, some directions wide and some narrow."""
    generator = np.random.default_rng(seed)
    centre = generator.integers(2, size=(n, 1)) * 3.0
    return (generator.normal(size=(n, D)) * np.linspace(0.2, 2, D) + centre).astype(np.float32)


@pytest.fixture
def planted():
    """6,000 images that belong, then 60 that don't: 30 each like the next, and 30 each of its own kind."""
    generator = np.random.default_rng(9)
    clones = np.linspace(8, -8, D) + 0.1 * generator.normal(size=(30, D))
    others = 8 * generator.normal(size=(30, D))
    return np.concatenate([draw(6000, 1), clones, others]).astype(np.float32)


@pytest.mark.parametrize("n_trusted", [0, 100, 2500])
def test_planted_images_are_found(planted, n_trusted):
    """Also such as are each other's neighbours; with enough trusted images the cut is measured on them."""
    trusted = np.arange(6060) < n_trusted
    found = find_outliers(planted, trusted)
    assert {*range(6000, 6060)} <= {*found.rows.tolist()}
    assert len(found.rows) < 60 + 6060 * 0.004
    assert found.calibrated_on == (1250 if n_trusted == 2500 else 0)
    assert not trusted[found.rows].any()
    assert (np.diff(found.score[found.rows]) <= 0).all()
    assert found.score[found.rows[-1]] > 1


def test_false_alarms_are_as_many_as_stated():
    """Averaged over data sets in which all images belong, the stated share is flagged, no more."""
    shares = []
    for seed in range(20):
        features = draw(5000, seed)
        found = find_outliers(features, np.arange(5000) < 2400, share=0.01, seed=seed)
        shares.append(len(found.rows) / 2600)
        assert found.expected == pytest.approx(26)
    assert 0.007 < np.mean(shares) < 0.0115


def test_a_share_that_no_trusted_image_can_show_is_extrapolated():
    """The farthest of a thousand images would be one false alarm in a thousand, whatever share is wanted."""
    features, trusted = draw(6000, 3), np.arange(6000) < 2400
    asked = find_outliers(features, trusted, share=0.0001)
    assert asked.calibrated_on == 0
    assert find_outliers(features, trusted, share=0.001).calibrated_on == 1200
    assert len(asked.rows) <= 5


def test_few_images_have_no_outliers():
    """With fewer than 200 none are reported."""
    assert find_outliers(draw(199, 0), np.zeros(199, bool)) is None
    assert find_outliers(draw(200, 0), np.zeros(200, bool)) is not None


def test_more_features_than_images_will_do():
    """Narrow directions that nobody has measured raise no alarm."""
    features = np.random.default_rng(0).normal(size=(300, 700)).astype(np.float32)
    features[5] *= 3
    found = find_outliers(features, np.zeros(300, bool))
    assert found.rows.tolist() == [5]
    assert found.to_json() == {
        "found": 1,
        "expected_if_all_belong": pytest.approx(0.3),
        "false_alarm_share": 0.001,
        "calibrated_on": 0,
    }


def test_where_all_images_are_alike_none_is_far_out():
    """There is no spread to measure by."""
    found = find_outliers(np.ones((400, D), np.float32), np.zeros(400, bool))
    assert not found.rows.size
    assert np.isfinite(found.score).all()
