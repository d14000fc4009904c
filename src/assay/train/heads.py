"""Heads on frozen features: MLPHead, a small network with scikit-learn's contract and soft targets, and
logistic regression. torch trains the network; NumPy alone applies both, so predicting needs no torch.
"""

from itertools import pairwise
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from assay.embed.device import one_torch_thread
from assay.errors import LabelError, MissingExtraError
from assay.predict.layers import Layers, moments
from assay.types import Labels, Matrix, Probs

ROW_TYPES = (np.float32, np.float16)
"""Kept as they come, memory maps too; all else becomes float32."""

WARM_UP = 0.2
"""Share of the steps in which the learning rate rises."""

ABSENT = -30.0
"""Score of a class without a row; the scores of the others sum to 0, so their best is far above it."""


def make_head(seed: int) -> "MLPHead":
    """The head that won on the course data: see benchmarks/LOG.md.

    Of some hundred images more than 20 passes are slower and no better: a run of 400 fitted its heads in a
    sixth of the time, with corrected labels 1.6 points more often right.
    """
    return MLPHead(epochs=8, max_epochs=20, input_dropout=0.2, random_state=seed)


class MLPHead(ClassifierMixin, BaseEstimator):
    """Linear, or one hidden layer (GELU, dropout), trained by AdamW with a one-cycle learning rate.

    Parameters
    ----------
    hidden : units of the hidden layer; 0 for a linear head, which wants a higher ``learning_rate``
    dropout : share of hidden units dropped in training, [0, 1)
    input_dropout : share of features dropped in training, [0, 1)
    epochs : passes over the rows
    min_steps, max_epochs : few rows are passed over more often, until there are this many steps or passes
    learning_rate, weight_decay : of AdamW (Loshchilov & Hutter 2019); the rate is the peak of the cycle
    batch_size : rows a step; at most a quarter of the rows
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
    Features are standardised first; one without any spread is only centred.
    """

    def __init__(
        self,
        hidden: int = 512,
        *,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        epochs: int = 8,
        min_steps: int = 600,
        max_epochs: int = 1000,
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
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to X (N, D) and labels y (N,)."""
        X, y = validate_data(self, X, y, dtype=ROW_TYPES)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        return self._fit(X, np.eye(len(self.classes_), dtype=np.float32)[index])

    def fit_soft(self, X: Any, targets: Any) -> Self:
        """Fit to X (N, D) and P(class) (N, K) whose rows sum to 1; ``classes_`` become 0 … K-1."""
        X = validate_data(self, X, dtype=ROW_TYPES)
        targets = np.asarray(targets, dtype=np.float32)
        if targets.shape[:1] != (len(X),) or targets.ndim != 2:
            raise ValueError(f"targets: expected shape ({len(X)}, K), got {targets.shape}")
        if not (targets >= 0).all() or not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
            raise ValueError("targets: expected probabilities in rows that sum to 1, got others")
        self.classes_ = np.arange(targets.shape[1])
        return self._fit(X, targets)

    def _fit(self, X: Matrix, targets: Probs) -> Self:
        try:
            import torch  # noqa: F401  # asks whether the extra is installed
        except ImportError:
            raise MissingExtraError("torch", "train") from None
        self._check_parameters()
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        mean, scale = moments(X)
        with one_torch_thread():
            self.layers_ = Layers(mean, scale, self._train(X, targets, mean, scale, seed))
        return self

    def _train(
        self,
        X: Matrix,
        targets: Probs,
        mean: Float[np.ndarray, "D"],
        scale: Float[np.ndarray, "D"],
        seed: int,
    ) -> tuple[np.ndarray, ...]:
        """Weights and biases, layer by layer, that minimise the cross-entropy."""
        import torch
        from torch.nn import functional

        generator = torch.Generator().manual_seed(seed)
        hidden = [self.hidden] if self.hidden else []
        widths = [X.shape[1], *hidden, targets.shape[1]]
        layers = [_linear(fan_in, fan_out, generator) for fan_in, fan_out in pairwise(widths)]
        n = len(X)
        batch = min(self.batch_size, max(n // 4, 1))
        an_epoch = -(-n // batch)
        epochs = max(self.epochs, min(-(-self.min_steps // an_epoch), self.max_epochs))
        optimiser = torch.optim.AdamW(
            [part for layer in layers for part in layer.parameters()],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            fused=True,
        )
        # 10 at least: torch divides by zero when the rise is one step long.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.learning_rate, total_steps=max(epochs * an_epoch, 10), pct_start=WARM_UP
        )
        at, per = torch.from_numpy(mean), torch.from_numpy(scale)
        # All epochs, one after the other; the last batch of each may be short.
        orders = (torch.randperm(n, generator=generator).numpy() for _ in range(epochs))
        for some in (
            np.sort(order[start : start + batch])  # a memory map is read forwards
            for order in orders
            for start in range(0, n, batch)
        ):
            values = (torch.from_numpy(np.asarray(X[some], dtype=np.float32)) - at) / per
            values = _drop(values, self.input_dropout, generator)
            for number, layer in enumerate(layers):
                if number:
                    values = _drop(functional.gelu(values), self.dropout, generator)
                values = layer(values)
            loss = -(torch.from_numpy(targets[some]) * values.log_softmax(dim=1)).sum(dim=1)
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
            schedule.step()
        parts = (part for layer in layers for part in (layer.weight.T, layer.bias))
        return tuple(part.detach().numpy().copy() for part in parts)

    def _check_parameters(self) -> None:
        shares, counts = ("dropout", "input_dropout"), ("epochs", "max_epochs", "batch_size")
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

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.decision_scores(X).argmax(axis=1)  # first, since it checks whether all is fitted
        labels: np.ndarray = self.classes_[best]
        return labels


def _linear(fan_in: int, fan_out: int, generator: Any) -> Any:
    import torch

    # On "meta" nothing is drawn; torch's own start would come from the global seed.
    layer = torch.nn.Linear(fan_in, fan_out, device="meta", dtype=torch.float32).to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        layer.bias.zero_()
    return layer


def _drop(values: Any, share: float, generator: Any) -> Any:
    """Dropout from a generator of its own; torch's takes only the global one."""
    if share == 0:
        return values
    import torch

    keep = torch.rand(values.shape, generator=generator, dtype=values.dtype) >= share
    return values * keep / (1 - share)


def fit_logistic(X: Matrix, labels: Labels, n_classes: int, *, C: float = 1.0) -> Layers:
    """Multinomial logistic regression on X (N, D); classes without a row are never predicted.

    ``C`` is scikit-learn's: the weight of the data against that of small coefficients.
    """
    if not len(labels):
        raise LabelError("expected labels to fit to, got none")
    mean, scale = moments(X)
    if len(np.unique(labels)) == 1:  # scikit-learn refuses to fit these; always predict the one
        bias = np.full(n_classes, ABSENT, dtype=np.float32)
        bias[labels[0]] = 0.0
        return Layers(mean, scale, (np.zeros((len(mean), n_classes), dtype=np.float32), bias))
    fitted = LogisticRegression(max_iter=2000, C=C).fit((X.astype(np.float64) - mean) / scale, labels)
    return logistic_layers(fitted, n_classes, mean, scale)


def logistic_layers(
    fitted: Any, n_classes: int, mean: Float[np.ndarray, "D"], scale: Float[np.ndarray, "D"]
) -> Layers:
    """A LogisticRegression that was fitted to features standardised by ``mean`` and ``scale``."""
    weight = np.zeros((len(mean), n_classes), dtype=np.float32)
    bias = np.full(n_classes, ABSENT, dtype=np.float32)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        # scikit-learn keeps one score for two classes: the second's; the first's is 0.
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    weight[:, fitted.classes_], bias[fitted.classes_] = coefficients.T, intercepts
    return Layers(mean, scale, (weight, bias))
