"""MLPHead: a small network on frozen features, with scikit-learn's contract and soft targets.

torch trains it; NumPy alone applies it, so predicting needs no torch.
"""

from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from assay._errors import MissingExtraError
from assay._types import Matrix, Probs
from assay.learn.layers import ROWS, Layers

DTYPES = (np.float32, np.float16)
"""Kept as they come; all else becomes float32."""


class MLPHead(ClassifierMixin, BaseEstimator):
    """Linear, or one hidden layer (GELU, dropout), trained by AdamW with a one-cycle learning rate.

    Parameters
    ----------
    hidden : units of the hidden layer; 0 for a linear head
    dropout : share of hidden units dropped while learning, [0, 1)
    input_dropout : share of features dropped while learning, [0, 1)
    epochs : passes over the rows
    min_steps : steps at the least; few rows are passed over more often
    learning_rate, weight_decay : of AdamW (Loshchilov & Hutter 2019); the rate is the peak of the cycle
    batch_size : rows a step; small data use fewer
    random_state : int, RandomState or None, as in scikit-learn

    Attributes
    ----------
    classes_ : (K,) labels, sorted; 0 … K-1 when targets were soft
    layers_ : Layers, the fitted arrays
    """

    def __init__(
        self,
        hidden: int = 512,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        epochs: int = 8,
        min_steps: int = 600,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 256,
        random_state: Any = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.epochs = epochs
        self.min_steps = min_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from X (N, D) and labels y (N,)."""
        X, y = validate_data(self, X, y, dtype=DTYPES)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        return self._fit(X, np.eye(len(self.classes_), dtype=np.float32)[index], sample_weight)

    def fit_soft(self, X: Any, targets: Probs, sample_weight: Any = None) -> Self:
        """Learn from X (N, D) and P(class) (N, K) whose rows sum to 1; ``classes_`` are 0 … K-1."""
        X = validate_data(self, X, dtype=DTYPES)
        if len(targets) != len(X) or not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
            raise ValueError(
                f"targets: expected ({len(X)}, K) with rows that sum to 1, got shape {targets.shape}"
            )
        self.classes_ = np.arange(targets.shape[1])
        return self._fit(X, targets.astype(np.float32), sample_weight)

    def _fit(self, X: Matrix, targets: Probs, sample_weight: Any) -> Self:
        try:
            from assay.learn.train_head import train_head
        except ImportError:
            raise MissingExtraError("torch", "train") from None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float32)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        mean, scale = moments(X)
        self.layers_ = Layers(
            mean, scale, tuple(train_head(X, targets, weight, mean, scale, self.get_params(), seed))
        )
        return self

    def decision_scores(self, X: Any) -> np.ndarray:
        """Logits (N, K), float32, before the softmax."""
        check_is_fitted(self)
        return self.layers_.scores(validate_data(self, X, dtype=DTYPES, reset=False))

    def predict_proba(self, X: Any) -> Probs:
        """P(class) (N, K) in the order of ``classes_``."""
        return softmax(self.decision_scores(X), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log P(class) (N, K)."""
        return log_softmax(self.decision_scores(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        scores = self.decision_scores(X)
        return self.classes_[scores.argmax(axis=1)]


def moments(X: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, block by block; a constant feature gets 1."""
    total, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for start in range(0, len(X), ROWS):
        block = X[start : start + ROWS].astype(np.float64)
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    mean = total / len(X)
    scale = np.sqrt(np.maximum(squares / len(X) - mean**2, 0))
    return mean.astype(np.float32), np.where(scale < 1e-6, 1, scale).astype(np.float32)
