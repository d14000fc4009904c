"""MLPHead: a small network on frozen features, with scikit-learn's contract and soft targets.

torch trains it; NumPy alone applies it, so predicting needs no torch.
"""

from typing import Any, Self

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from assay.embed.device import one_torch_thread
from assay.errors import MissingExtraError
from assay.predict.layers import Layers, moments
from assay.types import Matrix, Probs

ROW_TYPES = (np.float32, np.float16)
"""Kept as they come, memory maps too; all else becomes float32."""


class MLPHead(ClassifierMixin, BaseEstimator):
    """Linear, or one hidden layer (GELU, dropout), trained by AdamW with a one-cycle learning rate.

    Parameters
    ----------
    hidden : units of the hidden layer; 0 for a linear head, which wants a higher ``learning_rate``
    dropout : share of hidden units dropped while learning, [0, 1)
    input_dropout : share of features dropped while learning, [0, 1)
    epochs : passes over the rows
    min_steps : steps at the least; few rows are passed over more often
    learning_rate, weight_decay : of AdamW (Loshchilov & Hutter 2019); the rate is the peak of the cycle
    batch_size : rows a step; small data use fewer
    random_state : int, RandomState or None, as in scikit-learn; the default is a number, so that the same
        data give the same head

    Attributes
    ----------
    classes_ : (K,) labels, sorted; 0 … K-1 when targets were soft
    layers_ : ``Layers``, the fitted arrays
    n_features_in_ : D
    feature_names_in_ : (D,) names of the features, if X had any

    Notes
    -----
    Features are standardised first; one without any spread is only centred. Sample weights, which count
    there too, are relative: twice as much for all rows is the same. A row of weight 0 is as if it were not
    there, but for its class.
    """

    def __init__(
        self,
        hidden: int = 512,
        *,
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
        """Learn from X (N, D) and labels y (N,), weighted by ``sample_weight`` (N,) >= 0.

        Raises
        ------
        ValueError : X, y, the weights or a parameter are not what was asked for
        MissingExtraError : torch is not installed
        """
        X, y = validate_data(self, X, y, dtype=ROW_TYPES)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        return self._fit(X, np.eye(len(self.classes_), dtype=np.float32)[index], sample_weight)

    def fit_soft(self, X: Any, targets: Any, sample_weight: Any = None) -> Self:
        """Learn from X (N, D) and P(class) (N, K) whose rows sum to 1; ``classes_`` become 0 … K-1.

        Raises
        ------
        ValueError, MissingExtraError : as in ``fit``
        """
        X = validate_data(self, X, dtype=ROW_TYPES)
        targets = np.asarray(targets, dtype=np.float32)
        if targets.shape[:1] != (len(X),) or targets.ndim != 2:
            raise ValueError(f"targets: expected shape ({len(X)}, K), got {targets.shape}")
        if not (targets >= 0).all() or not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
            raise ValueError("targets: expected probabilities in rows that sum to 1, got others")
        self.classes_ = np.arange(targets.shape[1])
        return self._fit(X, targets, sample_weight)

    def _fit(self, X: Matrix, targets: Probs, sample_weight: Any) -> Self:
        try:
            from assay.train.train_head import train_head
        except ImportError:
            raise MissingExtraError("torch", "train") from None
        self._check_parameters()
        weight = _check_sample_weight(sample_weight, X, dtype=np.float32, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight: expected a weight above zero for some row, got only zeros")
        # However small or large all of them are; weights of 1 stay as they are, to the last bit.
        weight = weight / weight[weight > 0].mean(dtype=np.float64).astype(weight.dtype)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        mean, scale = moments(X, weight)
        with one_torch_thread():
            weights = train_head(X, targets, weight, mean, scale, self.get_params(), seed)
        self.layers_ = Layers(mean, scale, weights)
        return self

    def _check_parameters(self) -> None:
        shares, counts = ("dropout", "input_dropout"), ("epochs", "batch_size")
        for name, value in self.get_params().items():
            if name in shares and not 0 <= value < 1:
                raise ValueError(f"{name}: expected a share in [0, 1), got {value!r}")
            if name in counts and not value >= 1:
                raise ValueError(f"{name}: expected 1 or more, got {value!r}")
            if name in ("hidden", "min_steps", "learning_rate", "weight_decay") and not value >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {value!r}")

    def decision_scores(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Logits (N, K), float32, before the softmax; memory does not grow with N but for the result."""
        check_is_fitted(self)
        return self.layers_.scores(validate_data(self, X, dtype=ROW_TYPES, reset=False))

    def predict_proba(self, X: Any) -> Probs:
        """P(class) (N, K) in the order of ``classes_``."""
        probs: Probs = softmax(self.decision_scores(X), axis=1)
        return probs

    def predict_log_proba(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Log P(class) (N, K)."""
        logs: Float[np.ndarray, "N K"] = log_softmax(self.decision_scores(X), axis=1)
        return logs

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.decision_scores(X).argmax(axis=1)
        labels: np.ndarray = self.classes_[best]
        return labels


def make_head(seed: int) -> MLPHead:
    """The head that won on the course data: see benchmarks/LOG.md."""
    return MLPHead(epochs=8, input_dropout=0.2, random_state=seed)
