"""SequentialClassifier: a list of layers, trained with Keras' defaults; and the notebook's lists of layers.

Adam with a constant learning rate, Glorot-uniform weights, shuffled batches and cross-entropy: what a reader
of the notebook expects of ``compile`` and ``fit``. Rows may be a memory map: one batch is read at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
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
    """The training it belongs to, for a system that trains more than once."""
    epoch: int
    """From 1."""
    loss: float
    """Mean cross-entropy during the epoch, as Keras prints it: with dropout, while the weights change."""
    accuracy: float
    """Share of rows predicted as the label trained on, right or wrong, likewise."""
    seconds: float


class SequentialClassifier(ClassifierMixin, BaseEstimator):
    """A torch ``nn.Sequential`` with scikit-learn's contract, trained with Keras' defaults.

    Parameters
    ----------
    build : ``(n_features, n_classes) -> nn.Sequential`` of Linear, Conv2d, batch norm, dropout and layers
        without weights, which returns logits; one with ``get_params`` can be searched, as ``build__dense``
    epochs : passes over the rows
    batch_size : rows of a step; the last batch of an epoch may be short
    learning_rate : of Adam (Kingma & Ba 2015), constant; betas 0.9 and 0.999, epsilon 1e-7
    standardise : whether each feature is first shifted and scaled to mean 0 and deviation 1
    dtype : of the products during training: ``float32``, ``bfloat16``, or ``auto``: bfloat16 on a CPU that
        has units for it, where it halves the time. Weights stay float32
    random_state : int, RandomState or None; the default is a number, so that the same data give the same
        network

    Attributes
    ----------
    classes_ : (K,) labels, sorted
    network_ : the trained ``nn.Sequential``, in evaluation mode
    mean_, scale_ : (D,) subtracted from each feature before the network, then divided by
    history_ : tuple of ``Epoch``
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
        """Train on X (N, D) and labels y (N,).

        Parameters
        ----------
        rows : indices of the training rows, ascending; all by default
        classes : all labels that exist, where the rows may lack some
        """
        try:
            from assay.notebook.training import build_network, train_network
        except ImportError:
            raise MissingExtraError("torch", "train") from None
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype: expected {', '.join(DTYPES)}, got {self.dtype!r}")
        for name in ("epochs", "batch_size"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)!r}")
        if not self.learning_rate >= 0:
            raise ValueError(f"learning_rate: expected 0 or more, got {self.learning_rate!r}")
        X, y = validate_data(self, X, y, dtype=ROW_TYPES)
        check_classification_targets(y)
        rows = np.arange(len(X)) if rows is None else np.asarray(rows)
        self.classes_ = np.unique(y[rows] if classes is None else classes)
        if not np.isin(y[rows], self.classes_).all():
            raise ValueError(f"y: expected labels among {self.classes_.tolist()}, got others too")
        # One number for weights, batches and dropout: torch's global generator is left alone.
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.mean_ = np.zeros(X.shape[1], dtype=np.float32)
        self.scale_ = np.ones(X.shape[1], dtype=np.float32)
        if self.standardise:
            weight = np.zeros(len(X))
            weight[rows] = 1  # others, such as the holdout, count nothing
            self.mean_, self.scale_ = moments(X, weight)
        network = build_network(self.build, X.shape[1], len(self.classes_), seed)
        with one_torch_thread():
            epochs = train_network(
                network,
                X,
                rows,
                np.searchsorted(self.classes_, y[rows]),
                mean=self.mean_,
                scale=self.scale_,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                dtype=self.dtype,
                seed=seed,
                progress=progress,
            )
            # Training happens here: the epochs come one by one, as they end.
            self.history_: tuple[Epoch, ...] = tuple(Epoch("train", *figures) for figures in epochs)
        self.network_ = network
        return self

    def decision_scores(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Logits, before the softmax."""
        from assay.notebook.training import network_scores

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


class Cnn(BaseEstimator):
    """Layers of CNN 1, and with ``batch_norm`` of CNN 2: three convolutions of 3 by 3, then dense ones."""

    def __init__(self, dense: int = 64, batch_norm: bool = False) -> None:
        self.dense = dense
        self.batch_norm = batch_norm

    def __call__(self, n_features: int, n_classes: int) -> Any:
        """An untrained network from rows of pixels to logits."""
        from torch import nn

        from assay.notebook.training import Pixels

        side = isqrt(n_features // 3)
        flat = 64 * (side // 4) ** 2  # 64 maps, halved twice
        # Pooling before the ReLU gives the same numbers as after it, at a quarter of the work.
        return nn.Sequential(
            Pixels(side),
            nn.Conv2d(3, 32, 3, padding="same"),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding="same"),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding="same"),
            nn.ReLU(),
            nn.Flatten(),
            # Keras' epsilon and momentum; torch's momentum is 1 minus Keras'.
            *([nn.BatchNorm1d(flat, eps=1e-3, momentum=0.01)] if self.batch_norm else []),
            nn.Linear(flat, self.dense),
            nn.ReLU(),
            nn.Linear(self.dense, n_classes),
        )


class Head(BaseEstimator):
    """Layers of Model I and Model II on the features of a frozen network."""

    def __init__(self, hidden: tuple[int, int, int] = (1024, 512, 128), dropout: float = 0.3) -> None:
        self.hidden = hidden
        self.dropout = dropout

    def __call__(self, n_features: int, n_classes: int) -> Any:
        """An untrained network from features to logits."""
        from torch import nn

        first, second, third = self.hidden
        return nn.Sequential(
            nn.Linear(n_features, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(second, third),
            nn.ReLU(),
            nn.Linear(third, n_classes),
        )
