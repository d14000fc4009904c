"""Outliers among images that belong."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from assay.correct.outliers import RIDGE, _between_classes, find_outliers, tail
from assay.types import UNKNOWN

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


def test_large_features_that_nearly_coincide_will_do():
    """Their covariance is not positive definite in float32; one that lies elsewhere is still found."""
    generator = np.random.default_rng(0)
    features = (1e4 * generator.normal(size=(600, 5)) @ generator.normal(size=(5, 512))).astype(np.float32)
    features[5] += 1e5 * generator.normal(size=512).astype(np.float32)
    found = find_outliers(features, np.zeros(600, bool), labels=np.arange(600) % 3)
    assert found.rows[0] == 5


def test_where_all_images_are_alike_none_is_far_out():
    """There is no spread to measure by."""
    found = find_outliers(np.ones((400, D), np.float32), np.zeros(400, bool))
    assert not found.rows.size
    assert np.isfinite(found.score).all()


@pytest.fixture
def of_another_class():
    """4,000 images of four classes, then 200 of a fifth among them, with the predictions of the four."""
    generator = np.random.default_rng(4)
    centres = 3.0 * np.eye(5, D)
    labels = np.concatenate([generator.integers(0, 4, 4000), np.full(200, 4)])
    features = (centres[labels] + generator.normal(size=(4200, D))).astype(np.float32)
    scores = features @ centres[:4].T
    pred_probs = np.exp(scores - scores.max(axis=1, keepdims=True))
    return features, labels, pred_probs / pred_probs.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_trusted", [100, 400, 2400])
def test_images_of_a_class_that_nobody_named_rank_first(of_another_class, n_trusted):
    """Not by their distance, which is no greater, but by neighbours, classes and predictions together."""
    features, labels, pred_probs = of_another_class
    trusted, new = np.arange(4200) < n_trusted, labels == 4
    settled = np.where(trusted | (pred_probs.max(axis=1) > 0.95), pred_probs.argmax(axis=1), UNKNOWN)
    near = find_outliers(features, trusted, labels=settled, top_probs=pred_probs.max(axis=1))
    far = find_outliers(features, trusted)
    ranked = [roc_auc_score(new[~trusted], found.score[~trusted]) for found in (near, far)]
    assert ranked[0] > 0.9 > ranked[1] + 0.1


def test_the_distance_between_classes_is_that_of_both_covariances():
    """By discriminant directions alone, it is the distance to a class less that to all, with one ridge."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 500)
    settled = generator.normal(size=(500, 6)) @ generator.normal(size=(6, 6)) + 2.0 * np.eye(3, 6)[labels]
    features = generator.normal(size=(40, 6))
    means = np.stack([settled[labels == number].mean(axis=0) for number in range(3)])
    inside = settled - means[labels]
    within = inside.T @ inside / 500 + RIDGE * np.eye(6)
    total = np.cov(settled.T, bias=True) + RIDGE * np.eye(6)

    def squared(apart, covariance):
        return np.einsum("nd,de,ne->n", apart, np.linalg.inv(covariance), apart)

    to_each = np.min([squared(features - mean, within) for mean in means], axis=0)
    slow = to_each - squared(features - settled.mean(axis=0), total)
    np.testing.assert_allclose(_between_classes(features, settled, labels), slow, rtol=1e-6)


def test_a_tail_goes_on_beyond_what_was_seen():
    """Of exponential values -log of the share beyond is the value itself, far out too."""
    belong = np.random.default_rng(0).exponential(size=100_000)
    values = np.array([0.0, 0.5, 2.0, 3.0, 20.0])
    np.testing.assert_allclose(tail(values, belong), values, rtol=0.06)
