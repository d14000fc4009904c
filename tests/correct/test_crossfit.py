import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.correct.crossfit import (
    MIN_SHARE,
    UNSEEN,
    TrainingData,
    cross_fit,
    fit_others,
    fit_soft,
    predict_all,
    weight_name,
)
from assay.correct.evidence import NoisyLabels
from assay.data.simulate import spoil, symmetric
from assay.data.split import folds
from assay.errors import LabelError
from assay.types import UNKNOWN

NOISE = symmetric(3, 0.5)


@pytest.fixture
def scene(draw_clouds, mostly_unknown):
    """300 points in three clouds, half of their labels wrong, ten of each class trusted."""
    X, truth = draw_clouds(300)
    noisy, trusted = spoil(truth, NOISE, 0), mostly_unknown(truth, 10)
    return TrainingData((X,), NoisyLabels(noisy), trusted, 3), noisy, folds(trusted, 5, seed=0)


def swap_label(data, row, label):
    """The same data with both labels of one row replaced."""
    trusted, noisy = data.trusted.copy(), data.labels.noisy.copy()
    trusted[row] = label if trusted[row] != UNKNOWN else UNKNOWN
    noisy[row] = label
    return TrainingData(data.views, NoisyLabels(noisy), trusted, 3)


@pytest.mark.parametrize("row", [0, 299])
def test_no_label_affects_the_prediction_of_its_own_image(scene, logistic, row):
    """Other labels of an image leave its own prediction as it was, trusted or not."""
    data, noisy, fold_of = scene
    before = cross_fit(data, fold_of, logistic).pred_probs
    for step in (1, 2):
        other = swap_label(data, row, (noisy[row] + step) % 3)
        after = cross_fit(other, fold_of, logistic).pred_probs
        assert after[row].tolist() == before[row].tolist()
        assert (after != before).any()


def test_images_without_a_fold_are_never_trained_on(scene, logistic):
    """The labels of holdout images change no prediction; theirs is the mean over the folds' classifiers."""
    data, _, fold_of = scene
    holdout = np.arange(0, 300, 5)
    fold_of[holdout] = UNKNOWN
    before = cross_fit(data, fold_of, logistic)
    for row in holdout:
        data = swap_label(data, row, 0)
    after = cross_fit(data, fold_of, logistic)
    assert after.pred_probs.tolist() == before.pred_probs.tolist()
    each = [fit_others(data, fold_of, fold, logistic) for fold in range(5)]
    mean = np.mean([predict_all(one, data.views[0][holdout], 3) for one in each], axis=0)
    np.testing.assert_allclose(after.pred_probs[holdout], mean)


def test_the_classifier_that_is_kept_is_fitted_to_all_folds(scene, logistic):
    """Beside the predictions comes the classifier of every image with a fold; progress counts the folds."""
    data, _, fold_of = scene
    calls = []
    kept = cross_fit(data, fold_of, logistic, progress=lambda *call: calls.append(call)).classifier
    alone = fit_others(data, fold_of, 5, logistic)
    assert kept.coef_.tolist() == alone.coef_.tolist()
    assert calls == [("cross-fit", done, 5) for done in range(1, 6)]


@pytest.mark.parametrize("per_class", [0, 2])
def test_noisy_labels_train_where_trusted_ones_are_few_or_none(
    draw_clouds, mostly_unknown, logistic, per_class
):
    """Two thousand labels of which half are wrong make a classifier nearly as good as the truth does."""
    right = []
    for seed in range(5):
        X, truth = draw_clouds(2000, distance=3.0, seed=seed)
        noisy, trusted = spoil(truth, NOISE, seed), mostly_unknown(truth, per_class)
        data = TrainingData((X,), NoisyLabels(noisy), trusted, 3)
        classifier = fit_others(data, folds(trusted, 5, seed), 5, logistic)
        best = logistic(0).fit(X, truth)
        right.append([np.mean(one.predict(X) == truth) for one in (classifier, best)])
    found, possible = np.mean(right, axis=0)
    assert found > possible - 0.015


def test_many_trusted_labels_alone_may_choose_the_targets(draw_clouds, mostly_unknown):
    """Where no line divides the classes, those of a classifier of the trusted labels are better."""
    X, quarter = draw_clouds(2000, k=4, distance=8.0)
    truth = quarter % 2  # opposite clouds are of one class
    noisy, trusted = spoil(truth, symmetric(2, 0.4), 0), mostly_unknown(truth, 200)

    def neighbours(seed):  # it has no use for a seed
        return KNeighborsClassifier(25)

    data = TrainingData((X,), NoisyLabels(noisy), trusted, 2)
    found = cross_fit(data, folds(trusted, 5, 0), neighbours).pred_probs
    assert np.mean(found.argmax(axis=1) == truth) > 0.95


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: RandomForestClassifier(5, random_state=seed),
        lambda seed: KNeighborsClassifier(5),  # noqa: ARG005  # it has no use for a seed
    ],
)
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(scene, make):
    """Threads change the time, not the result."""
    data, _, fold_of = scene
    one, other = (cross_fit(data, fold_of, make, workers=workers) for workers in (1, 3))
    assert one.pred_probs.tobytes() == other.pred_probs.tobytes()


def test_permuting_classes_permutes_the_predictions(scene, logistic):
    """The order of the classes means nothing."""
    data, _, fold_of = scene
    order = np.array([2, 0, 1])
    place = np.array([*np.argsort(order), UNKNOWN])
    permuted = TrainingData(data.views, NoisyLabels(place[data.labels.noisy]), place[data.trusted], 3)
    one, other = (cross_fit(some, fold_of, logistic).pred_probs for some in (data, permuted))
    np.testing.assert_allclose(other, one[:, order], atol=5e-3)


def test_a_class_without_trusted_images_is_still_found(draw_clouds, mostly_unknown, correct):
    """Its noisy labels alone bring it back, though no trusted image shows it."""
    X, truth = draw_clouds(1500, distance=6.0)
    trusted = np.where(truth == 2, UNKNOWN, mostly_unknown(truth, 100))
    corrected = correct(X, spoil(truth, symmetric(3, 0.3), 0), trusted, 3)
    assert np.mean(corrected.corrected[truth == 2] == 2) > 0.6


def test_labels_of_one_class_are_refused(scene, logistic):
    """The error counts the labels and their classes."""
    data, _, fold_of = scene
    one = TrainingData(data.views, NoisyLabels(np.ones(300, int)), np.full(300, UNKNOWN), 3)
    message = (
        "expected labels of two classes or more in each part to learn from, "
        "got 300 of 1; add labels of the other classes"
    )
    with pytest.raises(LabelError, match=message):
        cross_fit(one, fold_of, logistic)


@pytest.mark.parametrize(("fold_of", "found"), [(np.full(300, UNKNOWN), 0), (np.arange(300) % 2, 2)])
def test_fewer_than_three_folds_are_refused(scene, logistic, fold_of, found):
    """Beside the fold that is predicted two are needed, each predicted by the other."""
    with pytest.raises(ValueError, match=f"fold_of: expected 3 folds or more, from 0 on, got {found}"):
        cross_fit(scene[0], fold_of, logistic)


@pytest.mark.usefixtures("without_shape_checks")
def test_training_data_of_different_length_is_refused(scene):
    """Each view has a row for each image."""
    data = scene[0]
    message = r"expected one length for all, got \{'noisy': 300, 'trusted': 300, 'views\[0\]': 299\}"
    with pytest.raises(ValueError, match=message):
        TrainingData((data.views[0][1:],), data.labels, data.trusted, 3)


@pytest.fixture
def case():
    """60 rows of two features, and targets over three classes, none below MIN_SHARE."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    targets = np.exp(X @ rng.normal(size=(2, 3)))
    return X, targets / targets.sum(axis=1, keepdims=True)


class Recorder:
    """Remembers the rows, classes and weights that it was fitted to."""

    def fit(self, X, y, sample_weight):
        self.seen = X[:, 0].astype(int), y, sample_weight


def test_a_classifier_with_fit_soft_gets_the_targets_as_they_are(case):
    """``fit_soft`` is preferred to copies."""
    recorder = Recorder()
    recorder.fit_soft = lambda *seen: setattr(recorder, "seen", seen)
    fit_soft(recorder, *case)
    assert recorder.seen == case


def test_weighted_copies_have_the_optimum_of_the_soft_loss(case):
    """Logistic regression on copies is the minimum of the cross-entropy to the targets."""
    X, targets = case
    assert targets.min() > MIN_SHARE
    classifier = LogisticRegression(C=2.0, tol=1e-9, max_iter=1000)
    fit_soft(classifier, X, targets)

    def soft_loss(flat):
        weight, bias = flat[:6].reshape(2, 3), flat[6:]
        return -(targets * log_softmax(X @ weight + bias, axis=1)).sum() + np.square(weight).sum() / (2 * 2.0)

    best = minimize(soft_loss, np.zeros(9), tol=1e-10).x
    np.testing.assert_allclose(classifier.coef_.T, best[:6].reshape(2, 3), atol=1e-3)
    np.testing.assert_allclose(classifier.intercept_, best[6:] - best[6:].mean(), atol=1e-3)


def test_without_sample_weights_the_most_probable_class_is_fitted(case):
    """A classifier that cannot weigh rows gets each row once, with its most probable class."""
    X, targets = case
    classifier = KNeighborsClassifier(1)
    fit_soft(classifier, X, targets)
    assert classifier.predict(X).tolist() == targets.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("classifier", "name"),
    [
        (LogisticRegression(), "sample_weight"),
        (KNeighborsClassifier(), None),
        (make_pipeline(StandardScaler(), LogisticRegression()), "logisticregression__sample_weight"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), None),
        (
            make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), GaussianNB())),
            "pipeline__gaussiannb__sample_weight",
        ),
        (GridSearchCV(LogisticRegression(), {"C": [1, 2]}), None),
    ],
)
def test_the_name_of_the_weights(classifier, name):
    """A pipeline hands its weights to its last step; some classifiers take none."""
    assert weight_name(classifier) == name


@arbitrary(st.integers(0, 2**32 - 1), st.integers(2, 300), st.sampled_from([0.01, 1.0, 100.0]))
def test_the_copies_of_a_row_weigh_as_much_as_one(seed, k, evenness):
    """However many classes share a row, none is lost and there are at most 100 copies of it."""
    targets, recorder = np.random.default_rng(seed).dirichlet(np.full(k, evenness), 20), Recorder()
    fit_soft(recorder, np.arange(20.0)[:, None], targets)
    rows, classes, weight = recorder.seen
    np.testing.assert_allclose(np.bincount(rows, weight, minlength=20), 1)
    assert np.bincount(rows).max() <= 100
    assert set(zip(range(20), targets.argmax(axis=1).tolist(), strict=True)) <= set(
        zip(rows.tolist(), classes.tolist(), strict=True)
    )


def test_classes_without_training_rows_keep_a_small_probability(case):
    """Columns go where the classes are, and one percent is shared by all."""
    X, _ = case
    labels = np.where(X[:, 0] > 0, 3, 1)
    classifier = GaussianNB().fit(X, labels)
    probs = predict_all(classifier, X, 5)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    np.testing.assert_allclose(probs[:, [0, 2, 4]], UNSEEN / 5)
    np.testing.assert_allclose(
        probs[:, [1, 3]], (1 - UNSEEN) * classifier.predict_proba(X) + UNSEEN / 5, atol=1e-12
    )


@pytest.mark.parametrize("row", [[np.nan, np.nan], [0.0, 0.0], [np.inf, 0.0]])
def test_predictions_that_are_no_probabilities_are_refused(row):
    """A classifier that overflows is refused with its name and row."""

    class Broken:
        classes_ = np.arange(2)

        def predict_proba(self, _):
            return np.array([[0.5, 0.5], row])

    with pytest.raises(
        ValueError, match=r"expected probabilities of Broken, got \[.*\] for row 1 and 0 more"
    ):
        predict_all(Broken(), np.zeros((2, 3)), 2)


def test_the_prediction_of_an_image_is_the_mean_over_its_views(scene, logistic):
    """Each view has a prediction of its own."""
    data, _, fold_of = scene
    X = data.views[0]
    both = TrainingData((X, X + 0.5), data.labels, data.trusted, 3)
    found = cross_fit(both, fold_of, logistic)
    assert [view.shape for view in found.views] == [(300, 3), (300, 3)]
    assert not np.array_equal(*found.views)
    np.testing.assert_allclose(found.pred_probs, (found.views[0] + found.views[1]) / 2)
