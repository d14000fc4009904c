"""NoisyLabelClassifier: for people who already have embeddings, of anything."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from assay._errors import LabelError
from assay._types import UNKNOWN, Labels, Probs
from assay.data.split import folds
from assay.estimate import estimate_noise
from assay.fix.calibrate import calibrate
from assay.fix.crossfit import CrossFit, Evidence, cross_fit, fit_joint
from assay.fix.posterior import fit_strength, posterior
from assay.fix.soft import predict_all
from assay.learn.heads import MLPHead


class NoisyLabelClassifier(ClassifierMixin, BaseEstimator):
    """Learn from noisy labels for all rows and trusted labels for a few.

    Parameters
    ----------
    estimator : any scikit-learn classifier with ``predict_proba`` and sample weights; default ``MLPHead()``
    folds : parts of the cross-fitting, >= 2
    rounds : EM rounds on the noisy labels; 0 ignores them
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : (K,) labels, sorted
    transition_ : (K, K) P(given | true) at [true, given]; the identity without trusted labels
    belief_ : (N, K) P(true | row), each row from a classifier that did not learn from it
    posterior_ : (N, K) P(true | row, given label)
    strength_ : λ, the weight of the given label's evidence in the posterior
    noise_ : ``estimate.Noise`` with intervals; None without trusted labels
    estimator_ : the classifier fitted on all rows

    Notes
    -----
    Without ``trusted`` the labels are taken as they are, as any other classifier does.
    """

    def __init__(self, estimator: Any = None, folds: int = 5, rounds: int = 1, random_state: Any = 0) -> None:
        self.estimator = estimator
        self.folds = folds
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, trusted: Any = None) -> Self:
        """Learn from X (N, D), noisy labels y (N,), and trusted labels masked where unknown.

        Parameters
        ----------
        trusted : (N,) masked array, or an array with ``None`` or NaN where the label is unknown
            (for string labels also the empty string; for integer labels also -1)

        Raises
        ------
        LabelError : a trusted label that no row has as noisy label, or none at all
        """
        X, y = validate_data(
            self, X, y, dtype=None if self.estimator is not None else [np.float32, np.float16]
        )
        check_classification_targets(y)
        self.classes_, given = np.unique(y, return_inverse=True)
        if trusted is None:
            return self._fit_as_given(X, given)
        return self._fit_with_trusted(X, given, encode_trusted(trusted, self.classes_, len(X)))

    def _fit_as_given(self, X: Any, given: Labels) -> Self:
        n_classes = len(self.classes_)
        self.noise_, self.transition_, self.strength_ = None, np.eye(n_classes), 1.0
        self.estimator_ = self._make(check_random_state(self.random_state).randint(2**31 - 1)).fit(X, given)
        self.belief_ = predict_all(self.estimator_, X, n_classes)
        self.posterior_ = np.eye(n_classes)[given]
        self._calibration = None
        return self

    def _fit_with_trusted(self, X: Any, given: Labels, trusted: Labels) -> Self:
        n_classes = len(self.classes_)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.noise_ = estimate_noise(
            given, trusted, n_classes, classes=[str(label) for label in self.classes_], seed=seed
        )
        self.transition_ = self.noise_.transition
        options = CrossFit(rounds=self.rounds, seed=seed)
        fold_of = folds(trusted, self.folds, seed)
        evidence = Evidence((X,), given, trusted, self.transition_)
        (raw,) = cross_fit(evidence, fold_of, self._make, options)
        self._calibration = calibrate(raw, trusted)
        self.belief_ = self._calibration.apply(raw)
        self.strength_ = fit_strength(given, self.belief_, trusted, self.transition_)
        self.posterior_ = posterior(given, self.belief_, self.transition_, self.strength_)
        everything = np.ones(len(X), dtype=bool)
        self.estimator_ = fit_joint(evidence, everything, self._make, options)
        return self

    def _make(self, seed: int) -> Any:
        """A fresh classifier with this seed, where it takes one."""
        classifier = clone(self.estimator) if self.estimator is not None else MLPHead()
        if "random_state" in classifier.get_params():
            classifier.set_params(random_state=seed)
        return classifier

    def predict_proba(self, X: Any) -> Probs:
        """P(class) (N, K), calibrated on the trusted rows, in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(
            self, X, dtype=None if self.estimator is not None else [np.float32, np.float16], reset=False
        )
        probs = predict_all(self.estimator_, X, len(self.classes_))
        return probs if self._calibration is None else self._calibration.apply(probs)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]


def encode_trusted(trusted: Any, classes: np.ndarray, n: int) -> Labels:
    """Trusted labels as indices into ``classes``; UNKNOWN where masked or missing."""
    values = np.ma.getdata(trusted) if np.ma.isMaskedArray(trusted) else np.asarray(trusted)
    if values.shape != (n,):
        raise LabelError(
            f"trusted: expected {n} labels, one for each row, masked where unknown; got shape {values.shape}"
        )
    unknown = np.ma.getmaskarray(trusted) | np.array(
        [_is_missing(value, classes) for value in values.tolist()], dtype=bool
    )
    index = {label: i for i, label in enumerate(classes.tolist())}
    encoded = np.full(n, UNKNOWN)
    for row in np.flatnonzero(~unknown):
        label = values[row].item() if hasattr(values[row], "item") else values[row]
        if label not in index:
            raise LabelError(
                f"trusted: row {row} is {label!r}, which is not among the noisy labels {classes.tolist()[:10]}"
            )
        encoded[row] = index[label]
    if unknown.all():
        raise LabelError(
            "trusted: expected at least one label that is not masked, got none; leave trusted out instead"
        )
    return encoded


def _is_missing(value: Any, classes: np.ndarray) -> bool:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return True
    # -1 and "" mean unknown only while no class is called so.
    return value in (-1, "") and value not in classes.tolist()
