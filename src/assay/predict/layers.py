"""Layers: a fitted head as plain arrays. NumPy applies it, safetensors keeps it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from assay.errors import ModelError
from assay.types import Matrix, PerClass, PerImage, Probs

ROWS = 4096
"""Rows worked on at a time: memory does not grow with N."""


@dataclass(frozen=True)
class Layers:
    """Standardise, then linear layers with an activation between them; all float32."""

    mean: Float[np.ndarray, "D"]
    """Subtracted from each feature."""
    scale: Float[np.ndarray, "D"]
    """Each feature is then divided by it, > 0."""
    weights: tuple[np.ndarray, ...]
    """Weight (in, out) and bias (out,) of each layer in turn."""
    activation: str = "gelu"
    """``gelu`` or ``relu``."""

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ModelError(
                f"head: expected the activation {' or '.join(ACTIVATIONS)}, got {self.activation!r}"
            )
        width = len(self.mean)
        for weight, bias in zip(self.weights[::2], self.weights[1::2], strict=True):
            if weight.ndim != 2 or len(weight) != width or bias.shape != weight.shape[1:]:
                raise ModelError(
                    f"head: expected {width} inputs, got weight {weight.shape} and bias {bias.shape}"
                )
            width = weight.shape[1]
        # Found here a bad number is named; later it would only make every probability NaN.
        for name, part in self.tensors().items():
            if part.dtype != np.float32 or not np.isfinite(part).all():
                found = "NaN or infinity" if part.dtype == np.float32 else part.dtype
                raise ModelError(f"{name}: expected finite float32 numbers, got {found}")
        if self.scale.shape != self.mean.shape or not (self.scale > 0).all():
            raise ModelError("head: expected one scale > 0 for each mean")

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.weights[-1])

    def scores(self, X: Matrix) -> Float[np.ndarray, "N K"]:
        """Logits, float32."""
        if X.shape[1] != len(self.mean):
            raise ValueError(f"features: expected (N, {len(self.mean)}), got {X.shape}")
        blocks = [np.zeros((0, self.n_classes), dtype=np.float32)]
        for start in range(0, len(X), ROWS):
            values = (np.asarray(X[start : start + ROWS], dtype=np.float32) - self.mean) / self.scale
            for layer in range(0, len(self.weights), 2):
                if layer:
                    values = ACTIVATIONS[self.activation](values)
                values = values @ self.weights[layer] + self.weights[layer + 1]
            blocks.append(values)
        return np.concatenate(blocks)

    def probabilities(self, X: Matrix) -> Probs:
        """P(class), one row per row of X."""
        from scipy.special import softmax  # late: the ONNX graph predicts without SciPy

        probs: Probs = softmax(self.scores(X), axis=1)
        return probs

    def calibrated(self, inverse_temperature: float, bias: PerClass) -> "Layers":
        """The head of ``softmax(inverse_temperature · log p + bias)``: the last layer absorbs both."""
        *earlier, weight, last = self.weights
        weight = (weight * inverse_temperature).astype(np.float32)
        last = (last * inverse_temperature + bias).astype(np.float32)
        return replace(self, weights=(*earlier, weight, last))

    def tensors(self) -> dict[str, np.ndarray]:
        """Names and arrays, for a file."""
        named = {"head.mean": self.mean, "head.scale": self.scale}
        for i, weight in enumerate(self.weights):
            named[f"head.{i // 2}.{'bias' if i % 2 else 'weight'}"] = weight
        return named

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray], activation: str = "gelu") -> "Layers":
        """The layers of ``tensors()``, which do not hold the activation."""
        found = {name for name in tensors if name.startswith("head.")}
        depth = sum(name.endswith(".weight") for name in found)
        names = [f"head.{i}.{part}" for i in range(max(depth, 1)) for part in ("weight", "bias")]
        if found != {"head.mean", "head.scale", *names}:
            wanted = ", ".join(("head.mean", "head.scale", *names))
            raise ModelError(f"head: expected the tensors {wanted}, got {', '.join(sorted(found)) or 'none'}")
        weights = tuple(tensors[name] for name in names)
        return Layers(tensors["head.mean"], tensors["head.scale"], weights, activation)


def gelu(values: np.ndarray) -> np.ndarray:
    """The exact GELU (Hendrycks & Gimpel 2016), as torch computes it."""
    from scipy.special import erf

    curved: np.ndarray = values * 0.5 * (1 + erf(values * np.float32(0.5**0.5)))
    return curved.astype(np.float32, copy=False)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": gelu,
    "relu": lambda values: np.maximum(values, 0),
}


def moments(
    X: Matrix, weight: PerImage | None = None
) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "D"]]:
    """Weighted mean and deviation of each feature, float32; a constant one gets a deviation of 1."""
    share = np.ones(len(X)) if weight is None else weight.astype(np.float64)
    # Sums of squares lose the spread of numbers far from 0; relative to one of the rows they are near it.
    origin = X[int(share.argmax())].astype(np.float64)
    total, total_of_squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for start in range(0, len(X), ROWS):
        block = X[start : start + ROWS].astype(np.float64) - origin
        part = share[start : start + ROWS, None]
        total += (part * block).sum(axis=0)
        total_of_squares += (part * np.square(block)).sum(axis=0)
    offset = total / share.sum()
    mean, scale = origin + offset, np.sqrt(np.maximum(total_of_squares / share.sum() - offset**2, 0))
    # What float32 cannot tell from a constant is no spread, and nothing is divided by a rounding error.
    scale = np.where(scale <= 1e-6 * np.abs(mean), 1, scale)
    return mean.astype(np.float32), scale.astype(np.float32)
