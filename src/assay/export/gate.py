"""int8 behind a gate: several ways are tried, and the best is kept if it costs next to no accuracy.

The ways are compared by how near their probabilities are to the float32 model's, without labels; only the
best, its biases corrected, is measured on the gate's labels. Where it fails, more and more of the first
convolutions go back to float32 until it passes: the accuracy is then the best of a few, slightly optimistic.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from assay.errors import GateError
from assay.export.precision import METHODS, Quantization, count_convolutions, to_int8
from assay.predict.model import Model
from assay.predict.runtime import Runtime, load_runtime
from assay.types import Batch, Labels, Probs, Progress, silent

MAX_LOSS = 0.005
"""Share of the gate's images: how much accuracy int8 may cost."""

FEW = 200
"""A gate of fewer images is weak evidence: of ten, one gained makes up for one lost."""

MIN_AGREEMENT = 0.95
"""Share of the compared images of which int8 must predict the same class where the gate has few images."""

FLOAT_CONVOLUTIONS = (1, 4, 12)
"""First convolutions that stay float32 where int8 alone fails."""

TINY = 1e-6


@dataclass(frozen=True)
class Attempt:
    """One way to int8, and its figures."""

    how: Quantization
    divergence: float
    """Mean Kullback-Leibler divergence from the float32 probabilities, in nats."""
    agreement: float
    """Share of the compared images of which both predict the same class."""
    loss: float | None = None
    """Accuracy before less accuracy after, on the gate's images; None for a way that did not reach it."""


@dataclass(frozen=True)
class Quantized:
    """An int8 graph that passed."""

    graph: bytes
    how: Quantization
    attempts: tuple[Attempt, ...]


def quantize(
    model: Model,
    calibration: UInt8[np.ndarray, "R S S 3"],
    compared: UInt8[np.ndarray, "C S S 3"],
    images: Batch,
    trusted: Labels,
    *,
    progress: Progress = silent,
) -> Quantized:
    """The model's graph in int8.

    Parameters
    ----------
    calibration : images on which ranges are measured
    compared : other images, on which the ways are compared
    images, trusted : the gate's images (N, S, S, 3) and their labels (N,)

    Raises
    ------
    GateError : every way costs more than half a point of accuracy, or changes too many predictions where the
        gate has few images
    """
    plain = load_runtime(model)
    expected = plain.without_tta(compared)

    def n_right(runtime: Runtime) -> int:
        return int((runtime.probabilities(images).argmax(axis=1) == trusted).sum())

    def attempt(how: Quantization) -> tuple[bytes, Runtime, Attempt]:
        graph = to_int8(model.graph, calibration, how)
        runtime = load_runtime(replace(model, graph=graph))
        found = runtime.without_tta(compared)
        agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
        return graph, runtime, Attempt(how, _divergence(expected, found), agreement)

    ways = [Quantization(channels, method, False) for channels in (True, False) for method in METHODS]
    attempts = []
    for number, how in enumerate(ways):
        attempts.append(attempt(how)[-1])
        progress("quantize", number + 1, len(ways))
    nearest = min(attempts, key=lambda one: one.divergence)
    n, before, n_convolutions = len(trusted), n_right(plain), count_convolutions(model.graph)
    for kept in (0, *(kept for kept in FLOAT_CONVOLUTIONS if kept < n_convolutions)):
        how = replace(nearest.how, bias_correction=True, n_float_convolutions=kept)
        graph, runtime, one = attempt(how)
        n_lost = before - n_right(runtime)
        attempts.append(replace(one, loss=n_lost / n))
        # In whole images: a rounded share must not decide.
        if n_lost <= MAX_LOSS * n and (n >= FEW or one.agreement >= MIN_AGREEMENT):
            return Quantized(graph, how, tuple(attempts))
    few = n < FEW
    figures = "; ".join(
        f"{one.how}: {100 * one.loss:.1f}" + (f" and {one.agreement:.0%}" if few else "")
        for one in attempts
        if one.loss is not None
    )
    others = f" and the same class for {MIN_AGREEMENT:.0%} of other images" if few else ""
    raise GateError(
        f"int8: expected to lose at most {100 * MAX_LOSS:g} points of accuracy on {n:,} images{others}, "
        f"got {figures}; nothing was written; use --precision float16"
    )


def _divergence(expected: Probs, found: Probs) -> float:
    one, other = np.maximum(expected, TINY), np.maximum(found, TINY)
    return float((one * np.log(one / other)).sum(axis=1).mean())
