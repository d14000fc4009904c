"""SequentialClassifier: a network given as a list of layers, trained as Keras trains it by default.

Adam with a constant learning rate, weights that start Glorot-uniform, shuffled batches, cross-entropy:
what a reader of the notebook expects of ``compile`` and ``fit``. Rows may be a memory map; a batch at a
time is read of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from assay.embed.device import one_torch_thread
from assay.errors import MissingExtraError, UsageError
from assay.predict.layers import moments
from assay.train.heads import ROW_TYPES
from assay.types import Probs, Progress, silent

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Epoch:
    """One pass over the rows."""

    stage: str
    """Which training it belongs to, where a recipe has several."""
    epoch: int
    """From 1."""
    loss: float
    """Mean cross-entropy while learning, as Keras prints it: dropout at work, weights still moving."""
    accuracy: float
    """Share of rows that agreed with the label learned from, right or wrong, likewise."""
    seconds: float


class SequentialClassifier(ClassifierMixin, BaseEstimator):
    """A torch ``nn.Sequential`` with scikit-learn's contract, trained with Keras' defaults.

    Parameters
    ----------
    build : ``(n_features, n_classes) -> nn.Sequential`` of Linear, Conv2d, batch norm, dropout and layers
        without weights; it gives logits. An object with ``get_params`` may be searched, as
        ``build__dense``
    epochs : passes over the rows
    batch_size : rows a step; the last batch of an epoch may be short
    learning_rate : of Adam (Kingma & Ba 2015), constant; betas 0.9 and 0.999, epsilon 1e-7
    standardise : whether each feature is first shifted and scaled to mean 0 and deviation 1
    dtype : of the products while learning: ``float32``; ``bfloat16``, which halves the time on a processor
        that multiplies it; ``auto``, which is bfloat16 there and float32 elsewhere. Weights stay float32
    random_state : int, RandomState or None; the default is a number, so that the same data give the same
        network

    Attributes
    ----------
    classes_ : (K,) labels, sorted
    network_ : the trained ``nn.Sequential``, in evaluation mode
    mean_, scale_ : (D,) subtracted from each feature, then divided by; 0 and 1 unless ``standardise``
    history_ : ``Epoch`` by epoch
    n_features_in_ : D
    feature_names_in_ : (D,) names of the features, if X had any
    """

    def __init__(
        self,
        build: Callable[[int, int], Any],
        *,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        standardise: bool = False,
        dtype: str = "float32",
        random_state: Any = 0,
    ) -> None:
        self.build = build
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.standardise = standardise
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any, rows: Any = None, classes: Any = None, progress: Progress = silent) -> Self:
        """Learn from X (N, D) and labels y (N,).

        Parameters
        ----------
        rows : indices of the rows to learn from, ascending; all by default. A memory map is not copied
        classes : all labels that there are, where the rows may lack some
        progress : told of ``train`` and rows passed over, all epochs together

        Raises
        ------
        ValueError : X, y or a parameter are not what was asked for
        UsageError : an unknown dtype
        MissingExtraError : torch is not installed
        """
        try:
            from assay.notebook.train_sequential import Training, build_network, train_network
        except ImportError:
            raise MissingExtraError("torch", "train") from None
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=ROW_TYPES)
        check_classification_targets(y)
        rows = np.arange(len(X)) if rows is None else np.asarray(rows)
        self.classes_ = np.unique(y[rows] if classes is None else classes)
        if not np.isin(y[rows], self.classes_).all():
            raise ValueError(f"y: expected labels among {self.classes_.tolist()}, got others too")
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.mean_, self.scale_ = self._moments(X, rows)
        training = Training(
            self.epochs, self.batch_size, self.learning_rate, self.dtype, self.mean_, self.scale_, seed
        )
        network = build_network(self.build, X.shape[1], len(self.classes_), seed)
        with one_torch_thread():
            target = np.searchsorted(self.classes_, y[rows])
            self.history_: tuple[Epoch, ...] = tuple(
                Epoch("train", *figures)
                for figures in train_network(network, X, rows, target, training, progress)
            )
        self.network_ = network
        return self

    def _moments(self, X: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        if not self.standardise:
            return np.zeros(X.shape[1], dtype=np.float32), np.ones(X.shape[1], dtype=np.float32)
        weight = np.zeros(len(X))
        weight[rows] = 1
        return moments(X, weight)

    def _check_parameters(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype: expected {', '.join(DTYPES)}, got {self.dtype!r}")
        for name in ("epochs", "batch_size"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)!r}")
        if not self.learning_rate >= 0:
            raise ValueError(f"learning_rate: expected 0 or more, got {self.learning_rate!r}")

    def decision_scores(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Logits (N, K), float32, before the softmax; memory does not grow with N but for the result."""
        from assay.notebook.train_sequential import network_scores

        check_is_fitted(self)
        X = validate_data(self, X, dtype=ROW_TYPES, reset=False)
        with one_torch_thread():
            return network_scores(self.network_, X, self.mean_, self.scale_)

    def predict_proba(self, X: Any) -> Probs:
        """P(class) (N, K) in the order of ``classes_``."""
        probs: Probs = softmax(self.decision_scores(X), axis=1)
        return probs

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.decision_scores(X).argmax(axis=1)
        labels: np.ndarray = self.classes_[best]
        return labels
