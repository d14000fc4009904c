"""int8 through a gate: several ways are tried, and the best is kept if it costs next to no accuracy.

The ways are compared by how near their probabilities are to the model's, on images without regard to labels.
Only then the winner, its biases corrected, meets the labels of the gate, so that the gate is no part of the
choice. Where it fails, the first convolutions go back to float32, more of them, until it passes: its
accuracy there is then the best of a few, and a little too good.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from assay.errors import GateError
from assay.export.precision import METHODS, Quantisation, count_convolutions, to_int8
from assay.predict.model import Model
from assay.predict.runtime import Runtime, load_runtime
from assay.types import Batch, Labels, Probs, Progress, same_length, silent

MOST_LOST = 0.005
"""Share of the gate's images: how much accuracy int8 may cost."""

FEW = 200
"""Images of a gate below which it tells too little by itself: of ten, one gained makes up for one lost."""

LEAST_SAME = 0.95
"""Share of the compared images of which int8 must name the same class where the gate has few."""

KEPT = (1, 4, 12)
"""First convolutions that stay in float32 where int8 alone fails."""

TINY = 1e-6


@dataclass(frozen=True)
class Trial:
    """The images of a gate."""

    images: Batch
    """(N, S, S, 3)."""
    truth: Labels
    """(N,) trusted labels."""

    def __post_init__(self) -> None:
        same_length(images=self.images, truth=self.truth)


@dataclass(frozen=True)
class Tried:
    """One way, and how it went."""

    how: Quantisation
    distance: float
    """Mean Kullback-Leibler divergence from the model's probabilities, in nats."""
    same: float
    """Share of the compared images of which both name the same class."""
    lost: float | None = None
    """Accuracy before less accuracy after, on the gate's images; None where the gate was not reached."""


@dataclass(frozen=True)
class Quantised:
    """An int8 graph that passed."""

    graph: bytes
    how: Quantisation
    tried: tuple[Tried, ...]


def quantise(
    model: Model,
    ranges: UInt8[np.ndarray, "R S S 3"],
    compared: UInt8[np.ndarray, "C S S 3"],
    trial: Trial,
    *,
    progress: Progress = silent,
) -> Quantised:
    """The model's graph in int8.

    Parameters
    ----------
    ranges : images that ranges are read off
    compared : other images, by which the ways are compared
    trial : images of the gate

    Raises
    ------
    GateError : every way costs more than half a point of accuracy, or changes too many answers where the gate
        has few images
    """
    plain = load_runtime(model)
    expected, before = plain.first_look(compared), _right(plain, trial)

    def attempt(how: Quantisation) -> tuple[bytes, Tried]:
        graph = to_int8(model.graph, ranges, how)
        found = _runtime(model, graph).first_look(compared)
        same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
        return graph, Tried(how, _distance(expected, found), same)

    ways = [Quantisation(channels, method, shifted=False) for channels in (True, False) for method in METHODS]
    tried = []
    for number, how in enumerate(ways):
        tried.append(attempt(how)[1])
        progress("quantise", number + 1, len(ways))
    nearest = min(tried, key=lambda one: one.distance)
    most = count_convolutions(model.graph)
    for kept in (0, *(kept for kept in KEPT if kept < most)):
        graph, one = attempt(replace(nearest.how, shifted=True, kept=kept))
        lost = before - _right(_runtime(model, graph), trial)
        tried.append(replace(one, lost=lost / len(trial.truth)))
        if lost <= MOST_LOST * len(trial.truth) and (len(trial.truth) >= FEW or one.same >= LEAST_SAME):
            return Quantised(graph, one.how, tuple(tried))
    raise GateError(_refusal(tried, len(trial.truth)))


def _runtime(model: Model, graph: bytes) -> Runtime:
    return load_runtime(replace(model, graph=graph))


def _right(runtime: Runtime, trial: Trial) -> int:
    return int((runtime.probabilities(trial.images).argmax(axis=1) == trial.truth).sum())


def _distance(expected: Probs, found: Probs) -> float:
    one, other = np.maximum(expected, TINY), np.maximum(found, TINY)
    return float((one * np.log(one / other)).sum(axis=1).mean())


def _refusal(tried: Sequence[Tried], n: int) -> str:
    few = f" and the same class for {LEAST_SAME:.0%} of others" if n < FEW else ""
    figures = "; ".join(
        f"{one.how}: {100 * one.lost:.1f}" + (f" and {one.same:.0%}" if few else "")
        for one in tried
        if one.lost is not None
    )
    return (
        f"int8: expected at most {100 * MOST_LOST:g} points of accuracy to be lost on {n:,} images{few}, "
        f"got {figures}; nothing was written; take --precision float16"
    )
