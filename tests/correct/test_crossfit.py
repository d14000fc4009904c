import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from assay.correct.crossfit import Evidence, cross_fit, fit_joint, predict_all
from assay.data.simulate import spoil, symmetric
from assay.data.split import folds
from assay.errors import LabelError
from assay.types import UNKNOWN

NOISE = symmetric(3, 0.5)


@pytest.fixture
def scene(draw_clouds, mostly_unknown):
    """300 points in three clouds, half of their labels wrong, ten of each class trusted."""
    X, truth = draw_clouds(300)
    evidence = Evidence((X,), spoil(truth, NOISE, 0), mostly_unknown(truth, 10), NOISE)
    return evidence, truth, folds(evidence.trusted, 5, seed=0)


def swap_label(evidence, row, label):
    """The same evidence with both labels of one row replaced."""
    noisy, trusted = evidence.noisy.copy(), evidence.trusted.copy()
    noisy[row] = label
    trusted[row] = label if trusted[row] != UNKNOWN else UNKNOWN
    return Evidence(evidence.views, noisy, trusted, evidence.transition)


@pytest.mark.parametrize("row", [0, 299])
def test_no_image_has_a_say_in_its_own_belief(scene, logistic, row):
    """Other labels for an image leave its own belief as it was, be it trusted or not."""
    evidence, _, fold_of = scene
    before = cross_fit(evidence, fold_of, logistic).pred_probs
    for step in (1, 2):
        other = swap_label(evidence, row, (evidence.noisy[row] + step) % 3)
        after = cross_fit(other, fold_of, logistic).pred_probs
        assert after[row].tolist() == before[row].tolist()
        assert (after != before).any()


def test_images_without_a_fold_teach_nothing(scene, logistic):
    """The labels of sealed images change no belief, and theirs is the mean over the folds' classifiers."""
    evidence, _, fold_of = scene
    sealed = np.arange(0, 300, 5)
    fold_of[sealed] = UNKNOWN
    before = cross_fit(evidence, fold_of, logistic)
    for row in sealed:
        evidence = swap_label(evidence, row, 0)
    after = cross_fit(evidence, fold_of, logistic)
    assert after.pred_probs.tolist() == before.pred_probs.tolist()
    each = [
        fit_joint(
            evidence,
            (fold_of != fold) & (fold_of != UNKNOWN),
            logistic,
        )
        for fold in range(5)
    ]
    mean = np.mean([predict_all(one, evidence.views[0][sealed], 3) for one in each], axis=0)
    np.testing.assert_allclose(after.pred_probs[sealed], mean)


def test_the_classifier_that_is_kept_learned_from_all_folds(scene, logistic):
    """Beside the beliefs comes the classifier that is fitted to every image with a fold."""
    evidence, _, fold_of = scene
    kept = cross_fit(evidence, fold_of, logistic).classifier
    alone = fit_joint(
        evidence,
        np.ones(300, bool),
        logistic,
    )
    assert kept.coef_.tolist() == alone.coef_.tolist()


def test_what_is_said_of_an_image_is_the_mean_over_its_views(scene, logistic):
    """A view has a belief of its own, and the image has their mean."""
    evidence, _, fold_of = scene
    X = evidence.views[0]
    both = Evidence((X, X + 0.5), evidence.noisy, evidence.trusted, evidence.transition)
    found = cross_fit(both, fold_of, logistic)
    assert [view.shape for view in found.views] == [(300, 3), (300, 3)]
    assert not np.array_equal(*found.views)
    np.testing.assert_allclose(found.pred_probs, (found.views[0] + found.views[1]) / 2)


def test_without_rounds_the_noisy_labels_are_ignored(scene, logistic):
    """No round, no noisy label: any others give the same belief."""
    evidence, _, fold_of = scene
    blank = Evidence(evidence.views, np.full(300, UNKNOWN), evidence.trusted, evidence.transition)
    one, other = (cross_fit(some, fold_of, logistic, rounds=0) for some in (evidence, blank))
    assert one.pred_probs.tolist() == other.pred_probs.tolist()


def test_noisy_labels_help_where_trusted_ones_are_few(draw_clouds, mostly_unknown, logistic):
    """With six trusted points, two thousand labels of which half are wrong make a better classifier."""
    right = {0: [], 1: [], 3: []}
    for seed in range(5):
        X, truth = draw_clouds(2000, distance=3.0, seed=seed)
        evidence = Evidence((X,), spoil(truth, NOISE, seed), mostly_unknown(truth, 2), NOISE)
        for rounds, found in right.items():
            classifier = fit_joint(evidence, np.ones(2000, bool), logistic, rounds=rounds)
            found.append(np.mean(classifier.predict(X) == truth))
    assert np.mean(right[1]) > np.mean(right[0]) + 0.01
    assert np.mean(right[3]) > np.mean(right[0]) + 0.01


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: RandomForestClassifier(5, random_state=seed),
        lambda seed: KNeighborsClassifier(5),  # noqa: ARG005  # it has no use for a seed
    ],
)
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(scene, make):
    """Threads change the time, not the result."""
    evidence, _, fold_of = scene
    one, other = (cross_fit(evidence, fold_of, make, workers=workers) for workers in (1, 3))
    assert one.pred_probs.tobytes() == other.pred_probs.tobytes()


def test_a_forest_with_another_seed_gives_other_bytes(scene):
    """The seed reaches the classifiers."""
    evidence, _, fold_of = scene

    def make(seed):
        return RandomForestClassifier(5, random_state=seed)

    one, other = (cross_fit(evidence, fold_of, make, seed=seed) for seed in (0, 1))
    assert one.pred_probs.tobytes() != other.pred_probs.tobytes()


def test_each_round_has_a_seed_of_its_own(scene, logistic):
    """The first classifier gets the seed, each later one the next."""
    seeds = []

    def make(seed):
        seeds.append(seed)
        return logistic(seed)

    fit_joint(scene[0], np.ones(300, bool), make, rounds=2, seed=7)
    assert seeds == [7, 8, 9]


def test_permuting_classes_permutes_the_belief(scene, logistic):
    """The order of the classes means nothing."""
    evidence, _, fold_of = scene
    order = np.array([2, 0, 1])
    place = np.array([*np.argsort(order), UNKNOWN])
    permuted = Evidence(
        evidence.views, place[evidence.noisy], place[evidence.trusted], NOISE[np.ix_(order, order)]
    )
    one, other = (cross_fit(some, fold_of, logistic).pred_probs for some in (evidence, permuted))
    np.testing.assert_allclose(other, one[:, order], atol=5e-3)


def test_progress_is_told_after_each_fold(scene, logistic):
    """Whoever waits is told how many folds are done."""
    evidence, _, fold_of = scene
    calls = []
    cross_fit(evidence, fold_of, logistic, progress=lambda *call: calls.append(call))
    assert calls == [("believe", done, 5) for done in range(1, 6)]


def test_a_class_without_trusted_images_is_still_found(draw_clouds, mostly_unknown, fix_all):
    """Its noisy labels alone bring it back, though no trusted image shows it."""
    X, truth = draw_clouds(1500, distance=6.0)
    trusted = np.where(truth == 2, UNKNOWN, mostly_unknown(truth, 100))
    corrected = fix_all(X, spoil(truth, symmetric(3, 0.3), 0), trusted, 3)
    assert np.mean(corrected.corrected[truth == 2] == 2) > 0.6


def test_trusted_labels_of_one_class_are_refused(scene, logistic):
    """Nothing can be learned from one class; the error counts what there was."""
    evidence, _, fold_of = scene
    trusted = np.where(evidence.trusted == 1, 1, UNKNOWN)
    one = Evidence(evidence.views, evidence.noisy, trusted, NOISE)
    message = (
        "expected trusted labels of two classes or more in each part to learn from, "
        "got 10 of 1; add trusted labels"
    )
    with pytest.raises(LabelError, match=message):
        cross_fit(one, fold_of, logistic)


@pytest.mark.parametrize(("fold_of", "found"), [(np.full(300, UNKNOWN), 0), (np.zeros(300, int), 1)])
def test_fewer_than_two_folds_are_refused(scene, logistic, fold_of, found):
    """With one fold there is nothing left to learn from."""
    with pytest.raises(ValueError, match=f"fold_of: expected folds 0, 1 and so on, got {found} of them"):
        cross_fit(scene[0], fold_of, logistic)


@pytest.mark.usefixtures("without_shape_checks")
def test_evidence_of_different_length_is_refused(scene):
    """Each view has a row for each image."""
    evidence = scene[0]
    message = r"expected one length for all, got \{'noisy': 300, 'trusted': 300, 'views\[0\]': 299\}"
    with pytest.raises(ValueError, match=message):
        Evidence((evidence.views[0][1:],), evidence.noisy, evidence.trusted, NOISE)
