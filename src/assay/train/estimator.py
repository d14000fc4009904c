"""NoisyLabelClassifier: for people who already have embeddings, of anything."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from assay.correct.crossfit import predict_all
from assay.correct.evidence import NoisyLabels
from assay.correct.posterior import Calibration
from assay.correct.result import CorrectedLabels, correct_labels
from assay.data.labels import closest
from assay.data.split import folds
from assay.errors import LabelError, UsageError
from assay.noise import Noise
from assay.train.heads import ROW_TYPES, MLPHead
from assay.types import UNKNOWN, Labels, Probs


class NoisyLabelClassifier(ClassifierMixin, BaseEstimator):
    """Learn from noisy labels for all rows and trusted labels for a few.

    Parameters
    ----------
    estimator : any scikit-learn classifier with ``predict_proba``, or a pipeline that ends in one; default
        ``MLPHead()``. Without sample weights it learns from the most probable label of each row. A
        ``random_state`` of its own is replaced
    folds : parts of the cross-fitting, >= 3
    random_state : int, RandomState or None; the default is a number, so that the same data give the same
        result

    Attributes
    ----------
    classes_ : (K,) labels, sorted
    estimator_ : the classifier fitted on all rows; it knows the labels as 0 … K-1
    calibration_ : ``Calibration`` of its probabilities; None without trusted labels
    noise_ : ``Noise``, how wrong the labels are, with intervals; None without trusted labels
    corrected_ : ``CorrectedLabels`` of the rows that were learned from, as indices into ``classes_``: what
        label should be, and the belief, actions and suspects; None without trusted labels
    transition_ : (K, K) P(given | true) at [true, given]; the identity without trusted labels
    posterior_ : (N, K) P(true | row, given label) of the rows that were learned from; one-hot y without
        trusted labels
    labels_ : (N,) what each label should be: the trusted one, else the most probable one; y itself
        without trusted labels
    n_features_in_ : D
    feature_names_in_ : (D,) names of the features, if X had any

    Notes
    -----
    Without ``trusted`` the labels are taken as they are, as any other classifier does: nothing tells how
    wrong they are. With trusted labels for all rows, the noisy ones add nothing.

    Examples
    --------
    Six of ten labels of the digits are wrong, and a fifth of the rows was looked at again.

    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from assay import NoisyLabelClassifier
    >>> X, truth = load_digits(return_X_y=True)
    >>> generator = np.random.default_rng(0)
    >>> wrong = generator.random(len(X)) < 0.6
    >>> noisy = np.where(wrong, (truth + generator.integers(1, 10, len(X))) % 10, truth)
    >>> trusted = np.ma.array(truth, mask=generator.random(len(X)) > 0.2)
    >>> model = NoisyLabelClassifier(LogisticRegression(max_iter=1000)).fit(X / 16, noisy, trusted=trusted)
    >>> rate = model.noise_.rate
    >>> print(f"{rate.estimate:.1f} of the labels are wrong, {rate.high - rate.low:.1f} wide at 95 %")
    0.6 of the labels are wrong, 0.1 wide at 95 %
    >>> print(f"{np.mean(noisy == truth):.2f} were right, {np.mean(model.labels_ == truth):.2f} are now")
    0.41 were right, 0.95 are now
    """

    def __init__(self, estimator: Any = None, folds: int = 5, random_state: Any = 0) -> None:
        self.estimator = estimator
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, trusted: Any = None) -> Self:
        """Learn from X (N, D), noisy labels y (N,), and trusted labels where they are known.

        Parameters
        ----------
        trusted : (N,) masked array, or a sequence with None, NaN or pandas' NA where the label is unknown;
            -1 and the empty string say so too, unless y has a class of that name

        Raises
        ------
        LabelError : a trusted label that no row has as its noisy label, none at all, or too few of them to
            learn from: each part of the cross-fitting needs two classes
        UsageError : an estimator without ``predict_proba``, or more folds than rows
        ValueError : X or y are not what was asked for
        """
        X, y = validate_data(self, X, y, **self._accepts())
        check_classification_targets(y)
        if self.estimator is not None and not hasattr(self.estimator, "predict_proba"):
            raise UsageError(
                f"estimator: expected a classifier with predict_proba, got {type(self.estimator).__name__}; "
                "CalibratedClassifierCV gives it one"
            )
        self.classes_, noisy = np.unique(y, return_inverse=True)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.calibration_: Calibration | None = None
        self.noise_: Noise | None = None
        self.corrected_: CorrectedLabels | None = None
        if trusted is None:
            self.estimator_ = self._make(seed).fit(X, noisy)
            self.labels_ = self.classes_[noisy]
            self.transition_, self.posterior_ = np.eye(len(self.classes_)), np.eye(len(self.classes_))[noisy]
            return self
        known = encode_trusted(trusted, self.classes_, len(X))
        found = correct_labels(
            (X,),
            NoisyLabels(noisy),
            known,
            folds(known, self.folds, seed),
            self._make,
            classes=[str(label) for label in self.classes_],
            seed=seed,
        )
        self.estimator_, self.calibration_ = found.fitted.classifier, found.calibration
        self.noise_, self.corrected_ = found.noise, found.corrected
        self.labels_ = self.classes_[self.corrected_.corrected]
        self.transition_, self.posterior_ = found.noise.transition, found.corrected.posterior
        return self

    def _make(self, seed: int) -> Any:
        """A fresh classifier with this seed, wherever it takes one."""
        if self.estimator is None:
            return MLPHead(random_state=seed)
        classifier = clone(self.estimator)
        names = [name for name in classifier.get_params() if name.split("__")[-1] == "random_state"]
        return classifier.set_params(**dict.fromkeys(names, seed))

    def _accepts(self) -> dict[str, Any]:
        # X is checked as the estimator would check it.
        if self.estimator is None:
            return {"dtype": ROW_TYPES}
        allow_nan = get_tags(self.estimator).input_tags.allow_nan
        return {"dtype": (np.float64, np.float32), "ensure_all_finite": "allow-nan" if allow_nan else True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.estimator is not None:
            tags.input_tags.allow_nan = get_tags(self.estimator).input_tags.allow_nan
        return tags

    def predict_proba(self, X: Any) -> Probs:
        """P(class) (N, K), calibrated on the trusted rows, in the order of ``classes_``.

        Float64 where the estimator takes X as float64, as the default one does not; else float32.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **self._accepts())
        probs = predict_all(self.estimator_, X, len(self.classes_))
        if self.calibration_ is not None:
            probs = self.calibration_.apply(probs)
        return probs.astype(np.result_type(X, np.float32), copy=False)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)  # first, since it checks whether all is fitted
        labels: np.ndarray = self.classes_[best]
        return labels


def encode_trusted(trusted: Any, classes: np.ndarray, n: int) -> Labels:
    """Trusted labels (N,), as ``fit`` takes them, as indices into ``classes``, or UNKNOWN."""
    masked = np.ma.isMaskedArray(trusted)
    # As objects: NumPy would turn a None or NaN among strings into a word.
    values = np.asarray(np.ma.getdata(trusted) if masked else trusted, dtype=object)
    if values.shape != (n,):
        raise LabelError(
            f"trusted: expected {n} labels, one for each row, unknown ones masked; got shape {values.shape}"
        )
    index = {label: i for i, label in enumerate(classes.tolist())}
    # They mean unknown, unless there is a class of that name.
    blanks = {-1, ""} - index.keys()
    encoded = np.full(n, UNKNOWN)
    rows = np.flatnonzero(~np.ma.getmaskarray(trusted)) if masked else np.arange(n)
    for row in rows.tolist():
        label = values[row]
        if label is None or label in blanks or _is_missing(label):
            continue
        if label not in index:
            near = closest(label, map(str, index)) if isinstance(label, str) else None
            hint = f"did you mean {near!r}?" if near else f"they are {', '.join(map(repr, [*index][:10]))}"
            raise LabelError(f"trusted: row {row} is {label!r}, which no row has as its noisy label; {hint}")
        encoded[row] = index[label]
    if (encoded == UNKNOWN).all():
        raise LabelError("trusted: expected at least one known label, got none; leave trusted out instead")
    return encoded


def _is_missing(label: Any) -> bool:
    try:
        return bool(label != label)  # noqa: PLR0124  # NaN and NaT alone differ from themselves
    except TypeError:  # pandas' NA is neither equal nor different
        return True
