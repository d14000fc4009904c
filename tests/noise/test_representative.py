import json

import numpy as np
import pytest

from assay.noise import check_representative
from assay.noise.representative import LabelGap, _discriminant, two_sample_auc
from assay.types import UNKNOWN


def images(n=600, n_trusted=200, seed=0):
    """Features, noisy and trusted labels of images whose first ``n_trusted`` are like the rest."""
    rng = np.random.default_rng(seed)
    trusted = np.full(n, UNKNOWN)
    trusted[:n_trusted] = rng.integers(3, size=n_trusted)
    features = rng.normal(size=(n, 20)) @ rng.normal(size=(20, 20))
    return features.astype(np.float32), rng.integers(3, size=n), trusted


def test_images_picked_at_random_look_alike():
    """Nothing to warn of, and the evidence is kept."""
    found = check_representative(*images())
    assert (found.n_trusted, found.n_rest) == (200, 400)
    assert (found.looks_alike, found.warnings) == (True, ())
    assert found.labels.p_value > 0.025
    assert found.features_auc.low < 0.5 < found.features_auc.high


def test_false_alarms_are_as_rare_as_stated():
    """Of 200 sets picked at random, about 5 % are called different."""
    alarms = [not check_representative(*images(200, 80, seed), seed=seed).looks_alike for seed in range(200)]
    assert np.mean(alarms) < 0.1


def test_other_looking_images_are_warned_of():
    """Trusted images whose features are shifted get a warning with size, meaning and advice."""
    features, noisy, trusted = images()
    features[:200] += 3
    found = check_representative(features, noisy, trusted)
    assert not found.looks_alike
    assert found.features_p_value < 1e-6
    share = f"{100 * found.features_auc.estimate:.1f} %"
    assert found.warnings == (
        "The trusted images differ from the rest in how they look: a simple classifier tells them apart in "
        f"{share} of pairs; 50 % would be chance (p = {found.features_p_value:.2g}). Figures measured on the "
        "trusted images may not hold for the others: check more images, picked at random.",
    )


def test_images_that_differ_in_spread_alone_are_found():
    """Trusted images nearer to the centre have the same mean, and are separated."""
    features, noisy, trusted = images()
    features[:200] *= 0.5
    assert not check_representative(features, noisy, trusted).looks_alike


def test_other_labels_are_warned_of():
    """Trusted images with too many of one class name the class and both shares."""
    features, noisy, trusted = images()
    noisy[:200] = np.arange(200) % 2
    noisy[200:] = np.arange(400) % 4 // 2 * 2
    found = check_representative(features, noisy, trusted, classes=("cat", "dog", "fox"))
    assert found.largest_gap in (LabelGap("dog", 0.5, 0.0), LabelGap("fox", 0.0, 0.5))
    assert not found.looks_alike
    assert found.warnings[0].startswith(
        "The trusted images differ from the rest in their noisy labels: 50.0 % of the trusted images are "
        "labelled 'dog', 0.0 % of the others (p = "
    )


@pytest.mark.parametrize(
    ("n", "n_trusted", "warning"),
    [
        (
            100,
            12,
            "Too few to tell whether the trusted images look like the rest: 12 trusted, 88 others, "
            "30 of each are needed. Figures hold for the others only if the trusted were picked at random.",
        ),
        (50, 50, "All 50 images are trusted: there are no others to compare them with."),
    ],
)
def test_too_few_images_are_not_compared(n, n_trusted, warning):
    """Below 30 on a side nothing is compared, with a warning."""
    found = check_representative(*images(n, n_trusted))
    assert (found.labels, found.largest_gap, found.features_auc, found.features_p_value) == (None,) * 4
    assert (found.looks_alike, found.warnings) == (True, (warning,))


def test_rows_that_are_not_finite_are_left_out():
    """A broken feature row does not spoil the comparison."""
    features, noisy, trusted = images()
    features[::50] = np.inf
    assert check_representative(features, noisy, trusted).features_auc is not None
    features[:180] = np.nan
    assert check_representative(features, noisy, trusted).features_auc is None


def test_constant_features_hold_no_information():
    """Alone they give an AUC of one half, and beside others nothing, though 0.1 has no exact mean."""
    features, noisy, trusted = images()
    constant = np.full((600, 1), 0.1, np.float32)
    alone, without, beside = (
        check_representative(some, noisy, trusted)
        for some in (constant, features, np.hstack([features, constant]))
    )
    assert (alone.features_auc.estimate, alone.looks_alike) == (0.5, True)
    assert beside.features_auc.estimate == pytest.approx(without.features_auc.estimate, abs=1e-9)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("features", "rows", "message"),
    [
        (np.zeros((9, 2)), None, r"one length for all, got \{'features': 9, 'noisy': 10\}"),
        (None, np.ones(9, bool), r"one length for all, got \{'noisy': 10, 'trusted': 10, 'rows': 9\}"),
    ],
)
def test_arrays_of_different_length_are_refused(features, rows, message):
    """The error names the lengths."""
    with pytest.raises(ValueError, match=message):
        check_representative(features, np.zeros(10, int), np.zeros(10, int), rows=rows)


def test_sets_far_apart_are_separated_surely():
    """Without overlap the AUC is 1, and its interval as wide as the few rows leave it."""
    rng = np.random.default_rng(0)
    lows = []
    for n in (40, 400):
        auc, _ = two_sample_auc(rng.normal(size=(n, 3)) + 50, rng.normal(size=(n, 3)))
        assert (auc.estimate, auc.high) == (1.0, 1.0)
        lows.append(auc.low)
    assert 0.9 < lows[0] < 0.98 < lows[1] < 1


def test_many_columns_are_separated_as_few_are():
    """With more columns than rows the same direction comes from a system of one equation a row."""
    rng = np.random.default_rng(0)
    rows, gap = rng.normal(size=(40, 90)), rng.normal(size=90)
    quick = _discriminant(rows, gap)
    whole = np.linalg.solve(rows.T @ rows / 40 + 90 / 40 * np.eye(90), gap)
    assert np.allclose(quick, whole)


def test_rows_left_out_change_nothing():
    """Unusable images, however strange, change nothing."""
    features, noisy, trusted = images()
    rows = np.ones(600, dtype=bool)
    rows[::3] = False
    features[::3] = np.nan
    strange = check_representative(features, noisy, trusted, rows=rows)
    kept = check_representative(features[rows], noisy[rows], trusted[rows])
    assert strange == kept


def test_labels_or_features_alone_can_be_compared():
    """What is missing is left out; without names a class is shown by its number."""
    features, noisy, trusted = images()
    unlabelled = check_representative(features, np.full(600, UNKNOWN), trusted)
    assert (unlabelled.labels, unlabelled.largest_gap) == (None, None)
    assert unlabelled.features_auc is not None
    found = check_representative(None, noisy, trusted)
    assert found.labels is not None
    assert found.largest_gap.name.startswith("class ")
    assert (found.features_auc, found.features_p_value, found.looks_alike) == (None, None, True)
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


def test_one_image_of_each_group_is_compared():
    """Trusted images of few groups always look unlike the rest; of many groups one image each tells more."""
    generator = np.random.default_rng(0)
    alarms = np.zeros(2)
    for seed in range(40):
        groups = np.repeat(np.arange(100), 10)
        features = (
            generator.normal(size=(100, 10))[groups] + 0.3 * generator.normal(size=(1_000, 10))
        ).astype(np.float32)
        noisy = generator.integers(0, 3, 100)[groups]
        trusted = np.where(groups < 40, 0, UNKNOWN)
        for way, of in enumerate((None, groups)):
            found = check_representative(features, noisy, trusted, groups=of, seed=seed)
            alarms[way] += not found.looks_alike
        assert (found.n_trusted, found.n_rest) == (40, 60)
    assert alarms[0] > 30
    assert alarms[1] <= 6
    few = check_representative(None, noisy, np.where(groups < 9, 0, UNKNOWN), groups=groups)
    assert "look like the rest: one of each group, 9 trusted, 91 others, 30 of each" in few.warnings[0]
