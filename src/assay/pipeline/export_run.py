"""A finished run's model as one file for another machine, compared with the model on the run's own images.

Nothing is read of the holdout: neither its labels nor its images.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from assay.correct.posterior import NO_FLOOR, by_halves
from assay.data.dataset import ImageSource
from assay.data.squares import Squares, read_squares, spread
from assay.errors import MissingExtraError, UsageError
from assay.evaluate import Report, classification_report, wilson
from assay.export.gate import Quantised, Trial, quantise
from assay.export.precision import to_float16
from assay.pipeline.finished import FinishedRun
from assay.pipeline.outputs import DECIDED, VALIDATION
from assay.predict.conformal import conformal_thresholds
from assay.predict.graph_check import SHA256, digest_of
from assay.predict.model import Model, read_model
from assay.predict.runtime import BATCH, Runtime, load_runtime
from assay.types import UNKNOWN, Batch, Labels, Probs, Progress, Rows, silent

try:
    import onnx
except ImportError as error:
    raise MissingExtraError(error.name or "onnx", "train") from None

PRECISIONS = ("float32", "float16", "int8")

RANGED = 256
"""Images that int8 reads ranges off."""

COMPARED = 512
"""Images by which ways to int8 are compared."""

TRIED = 2_000
"""Trusted images that graphs are tried on, at most."""

ROUNDS = 5
"""Of timing; the fastest counts, since other programs disturb."""


@dataclass(frozen=True)
class Figures:
    """One precision, tried on the same images as the others."""

    precision: str
    bytes: int
    n: int
    """Trusted images."""
    accuracy: tuple[float, float, float]
    """Share that is right, with its 95 % interval."""
    same_class: float
    """Share of which the model says the same class."""
    largest_difference: float
    """From the model, of two probabilities of one class of one image."""
    milliseconds_one: float
    """An image, one at a time."""
    milliseconds_batch: float
    """An image, 32 at a time."""
    looked_twice: float
    """Share of the images that it looks at again, see ``learn.flip_tta``."""
    right_at_first: float
    """Share that would be right with one look at each."""


@dataclass(frozen=True)
class Exported:
    """The file, and what was found on the way."""

    precision: str
    graph: bytes
    figures: tuple[Figures, ...]
    """float32 first, the precision that was asked for last; float16 between it and int8."""
    quantised: Quantised | None
    """How int8 was reached."""
    learned_from: bool
    """Whether the model learned from the images that it was tried on: then no figure is its accuracy."""
    report: Report
    """Each class by the file itself, on those images."""
    flip_tta_below: float
    """Probability of the likeliest class below which the file looks again; 0 for a model that looks once."""

    def to_json(self) -> dict[str, Any]:
        """What was found, as a plain dict."""
        tried = self.quantised.tried if self.quantised else ()
        return {
            "precision": self.precision,
            "figures": [asdict(found) for found in self.figures],
            "learned_from": self.learned_from,
            "report": self.report.to_json(),
            "flip_tta_below": self.flip_tta_below,
            "tried": [{"how": str(one.how), "distance": one.distance, "lost": one.lost} for one in tried],
        }


def export_run(
    run: FinishedRun,
    images: ImageSource,
    precision: str,
    *,
    workers: int = 2,
    progress: Progress = silent,
) -> Exported:
    """The run's model in one ONNX file.

    Parameters
    ----------
    images : those of the run, in the order of labels.csv
    precision : one of ``PRECISIONS``
    workers : threads that decode

    Raises
    ------
    UsageError : another precision, or no trusted image that could be used
    ModelError : a run without a model that predicts
    GateError : int8 costs too much accuracy
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision: expected {', '.join(PRECISIONS)}, got {precision!r}")
    model = read_model(run.folder)
    dataset = run.dataset(images)

    def see(rows: Rows) -> Squares:
        return read_squares(dataset, rows, model.size, model.interpolation, workers=workers)

    rows, learned_from = _tried_rows(run)
    tried = see(rows)
    if not len(tried.rows):
        raise UsageError(f"{run.folder}: expected a trusted image to try the model on, got none")
    trial, quantised = Trial(tried.images, run.trusted[tried.rows]), None
    if precision == "int8":
        ranges, compared = (see(some).images for some in _unlabelled_rows(run, rows))
        quantised = quantise(model, ranges, compared, trial, progress=progress)
    graph = quantised.graph if quantised else _plain(model, precision)
    graphs = {"float32": model.graph}
    if quantised:
        graphs["float16"] = to_float16(model.graph)
    graphs |= {precision: graph}
    runtimes = {name: load_runtime(replace(model, graph=made)) for name, made in graphs.items()}
    figures, says = _figures(runtimes, graphs, trial, calibrated=not learned_from)
    told = {"precision": precision, "figures": json.dumps(_lasting(figures[-1]))}
    if not learned_from:
        told["conformal"] = json.dumps(conformal_thresholds(says[precision], trial.truth))
    report = classification_report(trial.truth, says[precision].argmax(axis=1), run.titles or run.labels)
    made = _telling(graph, told)
    return Exported(precision, made, figures, quantised, learned_from, report, model.flip_tta_below)


def _plain(model: Model, precision: str) -> bytes:
    return to_float16(model.graph) if precision == "float16" else model.graph


def _tried_rows(run: FinishedRun) -> tuple[Rows, bool]:
    """Trusted images to try on, and whether the model learned from them."""
    reasons = np.array(run.reasons, dtype=object)
    validation = np.flatnonzero((reasons == VALIDATION) & (run.proposed != UNKNOWN))
    if len(validation):
        return spread(validation, TRIED), False
    # Decided ones were picked for being doubtful.
    trusted = (run.trusted != UNKNOWN) & (run.proposed != UNKNOWN) & (reasons != DECIDED)
    return spread(np.flatnonzero(trusted), TRIED), True


def _unlabelled_rows(run: FinishedRun, tried: Rows) -> tuple[Rows, Rows]:
    """Images to read ranges off, and others to compare ways by; neither needs a label."""
    others = np.setdiff1d(np.flatnonzero((run.proposed != UNKNOWN) & ~run.held_out), tried)
    # Where all images have one, those of the gate must do.
    others = others if len(others) > 1 else tried
    return spread(others[::2], RANGED), spread(others[len(others) > 1 :: 2], COMPARED)


def _figures(
    runtimes: Mapping[str, Runtime], graphs: Mapping[str, bytes], trial: Trial, *, calibrated: bool
) -> tuple[tuple[Figures, ...], dict[str, Probs]]:
    """Of the graph of each precision, and what it says of the images.

    Parameters
    ----------
    calibrated : whether the model was calibrated on the images; each half of them is then judged by the other
    """
    says = {name: runtime.probabilities(trial.images) for name, runtime in runtimes.items()}
    # As float32's halves would have it: fitted to int8's own answers, it would mend what rounding spoiled.
    plain = says["float32"]

    def judged(said: Probs) -> Probs:
        return by_halves(plain, trial.truth, NO_FLOOR, of=said) if calibrated else said

    counted = {name: judged(said) for name, said in says.items()}
    first = {name: runtime.first_look(trial.images) for name, runtime in runtimes.items()}
    some = trial.images[:BATCH]
    one, many = _paces(runtimes, np.split(some, len(some))), _paces(runtimes, [some])
    figures = tuple(
        Figures(
            name,
            len(graph),
            len(trial.truth),
            _accuracy(counted[name], trial.truth),
            float((says[name].argmax(axis=1) == says["float32"].argmax(axis=1)).mean()),
            float(np.abs(says[name] - says["float32"]).max()),
            one[name],
            many[name],
            float((first[name].max(axis=1) < runtimes[name].flip_tta_below).mean()),
            _accuracy(judged(first[name]), trial.truth)[0],
        )
        for name, graph in graphs.items()
    )
    return figures, counted


def _accuracy(says: Probs, truth: Labels) -> tuple[float, float, float]:
    found = wilson(int((says.argmax(axis=1) == truth).sum()), len(truth))
    return found.estimate, found.low, found.high


def _paces(runtimes: Mapping[str, Runtime], calls: Sequence[Batch]) -> dict[str, float]:
    """Milliseconds an image, the runtimes by turns, so that what disturbs one disturbs the others."""
    best = dict.fromkeys(runtimes, float("inf"))
    for _ in range(ROUNDS):
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            for images in calls:
                runtime.probabilities(images)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: 1000 * seconds / sum(map(len, calls)) for name, seconds in best.items()}


def _lasting(figures: Figures) -> dict[str, Any]:
    """What holds on every machine."""
    return {name: value for name, value in asdict(figures).items() if not name.startswith(("milli", "bytes"))}


def _telling(graph: bytes, more: Mapping[str, str]) -> bytes:
    """The graph with more in its metadata."""
    model = onnx.load_from_string(graph)
    told = {entry.key: entry.value for entry in model.metadata_props}
    told |= more
    onnx.helper.set_model_props(model, told | {SHA256: digest_of(graph, told)})
    data: bytes = model.SerializeToString(deterministic=True)
    return data
