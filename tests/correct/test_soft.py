import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.correct.crossfit import MIN_SHARE, UNSEEN, fit_soft, predict_all, weight_name, weighted_copies


@pytest.fixture
def case():
    """60 rows of two features, and targets over three classes, none below MIN_SHARE."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    targets = np.exp(X @ rng.normal(size=(2, 3)))
    return X, targets / targets.sum(axis=1, keepdims=True)


class Recorder:
    """Learns from P(class) as it is, by remembering it."""

    def fit_soft(self, X, targets):
        self.seen = X, targets


def test_a_classifier_that_can_learns_from_the_targets_as_they_are(case):
    """``fit_soft`` is preferred to copies."""
    recorder = Recorder()
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


@pytest.mark.parametrize(
    "make",
    [
        GaussianNB,
        LogisticRegression,
        KNeighborsClassifier,
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    ],
)
def test_certain_targets_are_ordinary_labels(make, case):
    """One-hot targets give what fitting the labels gives."""
    X, targets = case
    labels = targets.argmax(axis=1)
    one, other = make(), make().fit(X, labels)
    fit_soft(one, X, np.eye(3)[labels])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-6)


def test_without_sample_weights_the_most_probable_class_is_learned(case):
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


def test_a_pipeline_learns_from_soft_targets(case):
    """The last step gets the weights: it comes out as if it were fitted alone."""
    X, targets = case
    pipeline, alone = (
        make_pipeline(StandardScaler(with_std=False, with_mean=False), GaussianNB()),
        GaussianNB(),
    )
    fit_soft(pipeline, X, targets)
    fit_soft(alone, X, targets)
    np.testing.assert_allclose(pipeline.predict_proba(X), alone.predict_proba(X))


@arbitrary(st.integers(0, 2**32 - 1), st.integers(2, 300), st.sampled_from([0.01, 1.0, 100.0]))
def test_the_copies_of_a_row_weigh_as_much_as_one(seed, k, evenness):
    """However many classes share a row, none is lost and there are at most 100 copies of it."""
    targets = np.random.default_rng(seed).dirichlet(np.full(k, evenness), 20)
    rows, classes, weight = weighted_copies(targets)
    np.testing.assert_allclose(np.bincount(rows, weight, minlength=20), 1)
    assert np.bincount(rows).max() <= 100
    assert set(zip(range(20), targets.argmax(axis=1).tolist(), strict=True)) <= set(
        zip(rows.tolist(), classes.tolist(), strict=True)
    )


def test_classes_that_were_never_met_keep_a_small_probability(case):
    """Columns go where the classes are, and what was not met shares one percent with the rest."""
    X, _ = case
    labels = np.where(X[:, 0] > 0, 3, 1)
    classifier = GaussianNB().fit(X, labels)
    probs = predict_all(classifier, X, 5)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    np.testing.assert_allclose(probs[:, [0, 2, 4]], UNSEEN / 5)
    np.testing.assert_allclose(
        probs[:, [1, 3]], (1 - UNSEEN) * classifier.predict_proba(X) + UNSEEN / 5, atol=1e-12
    )


def test_a_classifier_that_met_all_classes_is_taken_at_its_word(case):
    """Nothing is mixed in where nothing is missing."""
    X, targets = case
    classifier = GaussianNB().fit(X, targets.argmax(axis=1))
    np.testing.assert_allclose(predict_all(classifier, X, 3), classifier.predict_proba(X), rtol=1e-12)


@pytest.mark.parametrize("row", [[np.nan, np.nan], [0.0, 0.0], [np.inf, 0.0]])
def test_what_is_no_probability_is_refused(row):
    """A classifier that overflows is not believed to be sure of its first class."""

    class Broken:
        classes_ = np.arange(2)

        def predict_proba(self, _):
            return np.array([[0.5, 0.5], row])

    with pytest.raises(
        ValueError, match=r"expected probabilities of Broken, got \[.*\] for row 1 and 0 more"
    ):
        predict_all(Broken(), np.zeros((2, 3)), 2)
