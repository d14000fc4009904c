"""Layers: a fitted head as plain arrays. NumPy applies it, safetensors keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import erf, softmax

from assay._errors import ModelError
from assay._types import Matrix, Prior, Probs

ROWS = 4096
"""Rows scored at a time: memory does not grow with N."""


@dataclass(frozen=True)
class Layers:
    """Standardise, then linear layers with a GELU between them."""

    mean: Float[np.ndarray, "D"]
    scale: Float[np.ndarray, "D"]
    """Each feature's mean, subtracted, and standard deviation, divided by."""
    weights: tuple[np.ndarray, ...]
    """Weight (in, out) and bias (out,) of each layer in turn."""

    def __post_init__(self) -> None:
        width = len(self.mean)
        for weight, bias in zip(self.weights[::2], self.weights[1::2], strict=True):
            if weight.ndim != 2 or len(weight) != width or bias.shape != weight.shape[1:]:
                raise ModelError(
                    f"head: expected {width} inputs, got weight {weight.shape} and bias {bias.shape}"
                )
            width = weight.shape[1]
        if len(self.scale) != len(self.mean) or not all(
            np.isfinite(part).all() for part in self.tensors().values()
        ):
            raise ModelError("head: expected finite numbers and one scale for each mean")

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.weights[-1])

    def scores(self, X: Matrix) -> Float[np.ndarray, "N K"]:
        """Logits, float32, block by block."""
        blocks = [self._scores(X[start : start + ROWS]) for start in range(0, len(X), ROWS)]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.n_classes), dtype=np.float32)

    def _scores(self, rows: Matrix) -> Float[np.ndarray, "N K"]:
        values = (np.asarray(rows, dtype=np.float32) - self.mean) / self.scale
        for layer in range(0, len(self.weights), 2):
            if layer:
                values = gelu(values)
            values = values @ self.weights[layer] + self.weights[layer + 1]
        return values

    def probabilities(self, X: Matrix) -> Probs:
        """P(class), one row per row of X."""
        return softmax(self.scores(X), axis=1)

    def calibrated(self, sharpness: float, bias: Prior) -> "Layers":
        """The head whose probabilities are ``softmax(sharpness · log p + bias)``; the last layer absorbs both."""
        *earlier, weight, last = self.weights
        changed = (weight * sharpness).astype(np.float32), (last * sharpness + bias).astype(np.float32)
        return Layers(self.mean, self.scale, (*earlier, *changed))

    def tensors(self) -> dict[str, np.ndarray]:
        """Names and arrays, for a file."""
        named = {"head.mean": self.mean, "head.scale": self.scale}
        for i, weight in enumerate(self.weights):
            named[f"head.{i // 2}.{'bias' if i % 2 else 'weight'}"] = weight
        return named

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray]) -> "Layers":
        """What ``tensors`` gave, read back.

        Raises
        ------
        ModelError : a tensor is missing, or the shapes do not follow on each other
        """
        depth = sum(name.endswith(".weight") and name.startswith("head.") for name in tensors)
        names = [f"head.{i}.{part}" for i in range(depth) for part in ("weight", "bias")]
        missing = [name for name in ("head.mean", "head.scale", *names) if name not in tensors]
        if missing or not depth:
            raise ModelError(
                f"model.safetensors: expected a head, found no {', '.join(missing) or 'head.0.weight'}"
            )
        return Layers(tensors["head.mean"], tensors["head.scale"], tuple(tensors[name] for name in names))


def gelu(values: np.ndarray) -> np.ndarray:
    """The exact GELU (Hendrycks & Gimpel 2016), as torch computes it."""
    return (values * 0.5 * (1 + erf(values * np.float32(0.5**0.5)))).astype(np.float32, copy=False)
