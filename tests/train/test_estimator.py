import doctest
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from assay.errors import LabelError, UsageError
from assay.train.estimator import NoisyLabelClassifier, encode_trusted
from assay.train.heads import MLPHead
from assay.types import UNKNOWN

LOGISTIC = LogisticRegression(max_iter=1000)

ONLY_WITH_TRUSTED = ("calibration_", "corrected_", "noise_")

CHECKED = [
    NoisyLabelClassifier(LogisticRegression()),
    NoisyLabelClassifier(RandomForestClassifier(5)),
    NoisyLabelClassifier(KNeighborsClassifier()),
    NoisyLabelClassifier(make_pipeline(SimpleImputer(), LogisticRegression())),
]


# Their checks put numbers of any type into parameters, as users do.
@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks(CHECKED)
def test_it_keeps_scikit_learns_contract(estimator, check):
    """Each of scikit-learn's own checks of an estimator passes, around every kind of classifier."""
    check(estimator)


@pytest.mark.train
@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks([NoisyLabelClassifier(MLPHead(hidden=16, min_steps=50, learning_rate=1e-2))])
def test_it_keeps_scikit_learns_contract_around_the_default_head(estimator, check):
    """So do they around a smaller head of the default kind."""
    check(estimator)


@pytest.fixture(scope="module")
def fitted(many_digits):
    """Fitted to digits with logistic regression; a whole fit takes half a second."""
    return NoisyLabelClassifier(LOGISTIC).fit(many_digits.X, many_digits.noisy, trusted=many_digits.trusted)


@pytest.mark.parametrize(
    ("estimator", "margin"),
    [
        (LOGISTIC, 0.0),
        (RandomForestClassifier(20), 0.005),
        (KNeighborsClassifier(10), 0.02),
        (make_pipeline(PCA(30), KNeighborsClassifier(10)), 0.02),
    ],
    ids=["logistic", "forest", "neighbours", "pipeline"],
)
def test_it_beats_both_kinds_of_label_alone(digits, estimator, margin):
    """With both kinds of label it is better than with the noisy ones, and than with the trusted ones."""
    X_new, truth_new, known = digits.X_new, digits.truth_new, ~digits.trusted.mask
    both = NoisyLabelClassifier(estimator).fit(digits.X, digits.noisy, trusted=digits.trusted)
    noisy = NoisyLabelClassifier(estimator).fit(digits.X, digits.noisy)
    trusted = NoisyLabelClassifier(estimator).fit(digits.X[known], digits.truth[known])
    assert both.score(X_new, truth_new) > noisy.score(X_new, truth_new) + 0.1
    assert both.score(X_new, truth_new) > trusted.score(X_new, truth_new) + margin
    assert np.mean(both.labels_ == digits.truth) > 0.92


@pytest.mark.train
@pytest.mark.slow
def test_the_default_head_corrects_labels(digits):
    """Out of the box, most corrected labels are right and the head beats one trained on noisy labels."""
    few = slice(0, 300)
    X, truth, trusted = digits.X[few], digits.truth[few], digits.trusted[few]
    given = np.where(np.arange(300) % 4 < 2, digits.noisy[few], truth)
    both = NoisyLabelClassifier(folds=3).fit(X, given, trusted=trusted)
    noisy = NoisyLabelClassifier().fit(X, given)
    assert np.mean(given == truth) < 0.75
    assert isinstance(both.estimator_, MLPHead)
    assert both.predict_proba(digits.X_new).dtype == np.float32
    assert np.mean(both.labels_ == truth) > 0.9
    assert both.score(digits.X_new, digits.truth_new) > noisy.score(digits.X_new, digits.truth_new) + 0.05


def test_its_attributes_hold_all_results(many_digits, fitted):
    """Noise, calibration and corrected labels; confidence on new rows is the share that is right."""
    probs, right = (
        fitted.predict_proba(many_digits.X_new),
        fitted.predict(many_digits.X_new) == many_digits.truth_new,
    )
    assert probs.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.03)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    known = ~many_digits.trusted.mask
    assert fitted.noise_.rate.low < 0.6 < fitted.noise_.rate.high
    assert fitted.noise_.n_pairs == known.sum()
    corrected = fitted.corrected_
    assert corrected.noisy.tolist() == many_digits.noisy.tolist()
    assert corrected.trusted.tolist() == many_digits.trusted.filled(UNKNOWN).tolist()
    assert fitted.labels_[known].tolist() == many_digits.truth[known].tolist()
    assert corrected.counts["trusted"] == known.sum()
    assert fitted.posterior_.tolist() == corrected.posterior.tolist()
    assert fitted.transition_.tolist() == fitted.noise_.transition.tolist()
    assert np.mean(fitted.posterior_[~known].argmax(axis=1) == many_digits.truth[~known]) > 0.9
    wrong = many_digits.noisy != many_digits.truth
    assert wrong[corrected.label_issues[:400]].mean() > 0.97


def test_the_same_seed_gives_the_same_result(digits):
    """Twice the same; the seed reaches steps of a pipeline, and the one that was given stays as it was."""
    inside = make_pipeline(StandardScaler(), RandomForestClassifier(2))
    one, two, other = (
        NoisyLabelClassifier(inside, random_state=seed)
        .fit(digits.X[:300], digits.noisy[:300], trusted=digits.trusted[:300])
        .predict_proba(digits.X_new)
        for seed in (0, 0, 1)
    )
    assert one.tobytes() == two.tobytes() != other.tobytes()
    assert inside[-1].random_state is None
    assert not hasattr(inside[-1], "classes_")


def test_without_trusted_labels_the_labels_are_taken_as_they_are(many_digits, fitted):
    """The estimator alone is fitted, to y, also after a fit with trusted ones; other attributes are None."""
    plain = clone(LOGISTIC).fit(many_digits.X, many_digits.noisy)
    again = clone(fitted).fit(many_digits.X, many_digits.noisy)
    np.testing.assert_allclose(again.predict_proba(many_digits.X_new), plain.predict_proba(many_digits.X_new))
    assert again.labels_.tolist() == many_digits.noisy.tolist()
    assert again.transition_.tolist() == np.eye(10).tolist()
    assert again.posterior_.argmax(axis=1).tolist() == many_digits.noisy.tolist()
    assert all(getattr(again, name) is None for name in ONLY_WITH_TRUSTED)


def test_trusted_labels_for_all_rows_make_the_noisy_ones_idle(digits):
    """Then other noisy labels give the same classifier, and every label is the trusted one."""
    X, truth, noisy = digits.X[:150], digits.truth[:150], digits.noisy[:150]
    one = NoisyLabelClassifier(LOGISTIC).fit(X, noisy, trusted=truth)
    other = NoisyLabelClassifier(LOGISTIC).fit(X, noisy[::-1], trusted=truth)
    assert one.estimator_.coef_.tolist() == other.estimator_.coef_.tolist()
    assert one.labels_.tolist() == truth.tolist()
    assert set(one.corrected_.actions) == {"trusted"}


def test_labels_may_be_words(many_digits, fitted):
    """Words give what numbers give, in words."""
    words = np.array([f"digit {i}" for i in range(10)])
    trusted = np.where(many_digits.trusted.mask, "", words[many_digits.truth])
    model = NoisyLabelClassifier(LOGISTIC).fit(many_digits.X, words[many_digits.noisy], trusted=trusted)
    assert model.classes_.tolist() == words.tolist()
    assert model.labels_.tolist() == words[fitted.labels_].tolist()
    assert model.predict(many_digits.X_new).tolist() == words[fitted.predict(many_digits.X_new)].tolist()
    assert model.noise_.classes == tuple(words)


def test_tables_keep_their_names(digits):
    """A pandas table gives feature_names_in_, and one with other columns is refused."""
    frame = pd.DataFrame(digits.X, columns=[f"pixel {i}" for i in range(64)])
    trusted = pd.Series(digits.trusted.filled(0)).where(~digits.trusted.mask)
    model = NoisyLabelClassifier(LOGISTIC).fit(frame, pd.Series(digits.noisy), trusted=trusted)
    assert model.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"pixel 0": "other"}))


def test_missing_values_pass_if_the_estimator_takes_them(digits):
    """NaN in a table is for the estimator to judge."""
    X = np.where(np.random.default_rng(0).random(digits.X.shape) < 0.05, np.nan, digits.X)
    tolerant = NoisyLabelClassifier(HistGradientBoostingClassifier(max_iter=5), folds=3)
    tolerant.fit(X, digits.noisy, trusted=digits.trusted)
    assert np.mean(tolerant.labels_ == digits.truth) > 0.7
    assert get_tags(tolerant).input_tags.allow_nan
    assert not get_tags(NoisyLabelClassifier(LOGISTIC)).input_tags.allow_nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        NoisyLabelClassifier(LOGISTIC).fit(X, digits.noisy, trusted=digits.trusted)


def test_it_ends_a_pipeline(digits):
    """Trusted labels reach it by the usual double underscore."""
    pipeline = make_pipeline(PCA(20), NoisyLabelClassifier(LOGISTIC))
    pipeline.fit(digits.X, digits.noisy, noisylabelclassifier__trusted=digits.trusted)
    assert pipeline.score(digits.X_new, digits.truth_new) > 0.75


def test_it_can_be_searched_over(digits):
    """A grid search splits the trusted labels as it splits the rows."""
    X, noisy, trusted = digits.X[:300], digits.noisy[:300], digits.trusted[:300]
    grid = [{"folds": [3], "estimator__C": [0.1]}, {"folds": [4], "estimator__C": [1.0]}]
    search = GridSearchCV(NoisyLabelClassifier(LOGISTIC, folds=3), grid, cv=2).fit(X, noisy, trusted=trusted)
    assert search.best_estimator_.corrected_ is not None
    scores = cross_val_score(search.best_estimator_, X, noisy, params={"trusted": trusted}, cv=2)
    assert scores.shape == (2,)


def test_what_cannot_be_learned_is_refused(digits):
    """An estimator without probabilities, sparse features, and folds without a row in each."""
    message = (
        "estimator: expected a classifier with predict_proba, got RidgeClassifier; "
        "CalibratedClassifierCV gives it one"
    )
    with pytest.raises(UsageError, match=message):
        NoisyLabelClassifier(RidgeClassifier()).fit(digits.X, digits.noisy)
    with pytest.raises(TypeError, match="toarray"):
        NoisyLabelClassifier(GaussianNB()).fit(csr_matrix(digits.X), digits.noisy)
    few = digits.X[:20], digits.truth[:20]
    for folds in (1, 21):
        with pytest.raises(UsageError, match=f"expected from 2 to 20 folds, .* got {folds}"):
            NoisyLabelClassifier(LOGISTIC, folds=folds).fit(*few, trusted=few[1])


def test_labels_of_one_class_are_refused(many_digits):
    """Each part of the cross-fitting needs two; trusted ones may be of one."""
    with pytest.raises(LabelError, match="expected labels of two classes or more in each part"):
        NoisyLabelClassifier(LOGISTIC).fit(many_digits.X, np.zeros(1200), trusted=np.zeros(1200))
    threes = np.where(many_digits.truth == 3, 3.0, np.nan)
    found = NoisyLabelClassifier(LOGISTIC).fit(many_digits.X, many_digits.noisy, trusted=threes)
    assert found.score(many_digits.X_new, many_digits.truth_new) > 0.75


def test_the_example_is_true():
    """What the docstring shows is what comes out."""
    found = doctest.testmod(sys.modules[NoisyLabelClassifier.__module__])
    assert (found.failed, found.attempted > 5) == (0, True)


NUMBERS, WORDS = np.array([3, 5, 7]), np.array(["cat", "dog", "eel"])


@pytest.mark.parametrize(
    ("trusted", "classes"),
    [
        (np.ma.array([5, 99, 3, 0], mask=[False, True, False, True]), NUMBERS),
        (np.array([5, -1, 3, -1]), NUMBERS),
        ((5.0, None, np.float64(3), float("nan")), NUMBERS),
        ([5, "", 3, ""], NUMBERS),
        (pd.Series([5, None, 3, None]), NUMBERS),
        (pd.Series([5, None, 3, None], dtype="Int64"), NUMBERS),
        (pl.Series([5, None, 3, None]), NUMBERS),
        (np.array([5, None, 3, np.datetime64("NaT")], dtype=object), NUMBERS),
        (np.ma.array(["dog", "nonsense", "cat", ""], mask=[False, True, False, False]), WORDS),
        (["dog", None, "cat", float("nan")], WORDS),
        (pd.Series(["dog", None, "cat", None], dtype="string"), WORDS),
        (pd.Series(["dog", None, "cat", None], dtype="category"), WORDS),
        (pl.Series(["dog", None, "cat", None]), WORDS),
        # A class may have the name of a blank; masked and None still work.
        ([1, None, -1, None], np.array([-1, 1])),
        (["a", None, "", None], np.array(["", "a"])),
        ([True, None, False, None], np.array([False, True])),
    ],
)
def test_every_way_to_leave_a_label_out(trusted, classes):
    """Masked, None, NaN, NA, NaT, -1 and the empty string all mean unknown."""
    assert encode_trusted(trusted, classes, 4).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize(
    ("trusted", "classes", "message"),
    [
        (
            ["dog", None, "cta"],
            WORDS,
            "row 2 is 'cta', which no row has as its noisy label; did you mean 'cat'?",
        ),
        ([None, 4, 3], NUMBERS, "row 1 is 4, which no row has as its noisy label; they are 3, 5, 7"),
        (["5", None, None], NUMBERS, "row 0 is '5', which no row has as its noisy label; did you mean '5'"),
        (
            [None, None, np.nan],
            NUMBERS,
            "expected at least one known label, got none; leave trusted out",
        ),
        ([3, 5], NUMBERS, r"expected 3 labels, one for each row, unknown ones masked; got shape \(2,\)"),
        ([[3], [5], [7]], NUMBERS, r"expected 3 labels, .*; got shape \(3, 1\)"),
    ],
)
def test_labels_that_cannot_be_right_are_named(trusted, classes, message):
    """The error names the row, its label and the class that was probably meant."""
    with pytest.raises(LabelError, match=f"trusted: {message}"):
        encode_trusted(trusted, classes, 3)
