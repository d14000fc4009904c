"""A finished run's model as one file for another machine, measured on the run's own trusted images.

Neither labels nor images of the holdout are read.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx

from assay.correct.posterior import NO_FLOOR, by_halves
from assay.data.dataset import ImageSource
from assay.data.loader import ImageBatch, load_together, spread
from assay.data.resize import TargetSize
from assay.errors import UsageError
from assay.evaluate import Report, classification_report, format_report, wilson
from assay.export.precision import Quantized, quantize, to_float16
from assay.pipeline.finished import FinishedRun
from assay.pipeline.run_files import DECIDED, VALIDATION, read_facts
from assay.predict.batch import conformal_thresholds
from assay.predict.graph_check import SHA256, digest_of
from assay.predict.model import read_model
from assay.predict.runtime import BATCH, Runtime, load_runtime
from assay.text import interval, share_of
from assay.types import UNKNOWN, Batch, Labels, Probs, Progress, Rows, silent

PRECISIONS = ("float32", "float16", "int8")

CALIBRATED = 128
"""Images on which int8 measures ranges."""

COMPARED = 256
"""Images on which ways to int8 are compared."""

MEASURED = 1_000
"""Trusted images that graphs are measured on, at most."""

ROUNDS = 5
"""Of timing; the fastest counts, since other programs disturb."""

TABLE = (
    "| | MB | right, 95 % interval | same class as the model | ms an image, one by one | 32 together |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Figures:
    """One precision, measured on the same images as the others."""

    precision: str
    bytes: int
    n: int
    """Trusted images."""
    accuracy: tuple[float, float, float]
    """Share that is right, with its 95 % interval."""
    same_class: float
    """Share of which the model predicts the same class."""
    largest_difference: float
    """From the model, of two probabilities of one class of one image."""
    milliseconds_one: float
    """An image, one at a time."""
    milliseconds_batch: float
    """An image, 32 at a time."""
    flip_tta_share: float
    """Share of the images of which the mirrored image is predicted too, see ``predict.runtime``."""
    accuracy_without_tta: float
    """Share that would be right without."""

    @property
    def right(self) -> dict[str, float]:
        """The accuracy as an interval."""
        return dict(zip(("estimate", "low", "high"), self.accuracy, strict=True))


@dataclass(frozen=True)
class Exported:
    """The file, and its figures."""

    precision: str
    graph: bytes
    figures: tuple[Figures, ...]
    """float32 first, the chosen precision last; float16 between it and int8."""
    quantized: Quantized | None
    """How int8 was reached."""
    trained_on: bool
    """Whether the model was trained on the images that it was measured on: no figure is its accuracy then."""
    report: Report
    """Each class by the file itself, on those images."""
    flip_tta_below: float
    """Probability of the likeliest class below which the mirrored image is predicted too; 0 for never."""

    def to_json(self) -> dict[str, Any]:
        """The figures as a plain dict."""
        attempts = self.quantized.attempts if self.quantized else ()
        return {
            "precision": self.precision,
            "figures": [asdict(found) for found in self.figures],
            "trained_on": self.trained_on,
            "report": self.report.to_json(),
            "flip_tta_below": self.flip_tta_below,
            "attempts": [
                {"how": str(one.how), "divergence": one.divergence, "loss": one.loss} for one in attempts
            ],
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
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision: expected {', '.join(PRECISIONS)}, got {precision!r}")
    model = read_model(run.folder)
    dataset = run.dataset(images)

    def read(rows: Rows) -> ImageBatch:
        return load_together(dataset, TargetSize(model.size, model.interpolation), rows, workers=workers)

    rows, trained_on = measured_rows(run)
    measured = read(rows)
    if not len(measured.decoded):
        raise UsageError(f"{run.folder}: expected a trusted image to measure the model on, got none")
    pixels, truth, quantized = measured.images[0], run.trusted[measured.decoded], None
    graphs = {"float32": model.graph}
    predicted: dict[str, tuple[Probs, Probs]] = {}

    def predict(runtime: Runtime) -> tuple[Probs, Probs]:
        """P(class) without test-time augmentation and with it; the gate has asked for some of them before."""
        if runtime.digest not in predicted:
            first = runtime.without_tta(pixels)
            predicted[runtime.digest] = first, runtime.with_tta(first, pixels)
        return predicted[runtime.digest]

    if precision != "float32":
        graphs["float16"] = to_float16(model.graph)
    if precision == "int8":
        # Neither needs a label. Where all images are trusted, those of the gate must do.
        others = np.setdiff1d(np.flatnonzero((run.proposed != UNKNOWN) & ~run.held_out), rows)
        others = others if len(others) > 1 else rows
        calibration = read(spread(others[::2], CALIBRATED)).images[0]
        compared = read(spread(others[len(others) > 1 :: 2], COMPARED)).images[0]
        quantized = quantize(
            model, calibration, compared, lambda runtime: predict(runtime)[1], truth, progress=progress
        )
        graphs["int8"] = quantized.graph
    runtimes = {name: load_runtime(replace(model, graph=graph)) for name, graph in graphs.items()}
    probs = {name: predict(runtime) for name, runtime in runtimes.items()}
    # Calibrated anew, a balanced model would predict for the trusted images' mix of classes.
    calibrated = not trained_on and not run.record["settings"].get("balanced")
    figures, counted = _measure(runtimes, graphs, probs, pixels[:BATCH], truth, calibrated=calibrated)
    # The file says what holds on every machine: no times.
    passing = ("milli", "bytes", *(("accuracy",) if trained_on else ()))
    lasting = {name: value for name, value in asdict(figures[-1]).items() if not name.startswith(passing)}
    metadata = {"precision": precision, "figures": json.dumps(lasting)}
    if not trained_on:
        metadata["conformal"] = json.dumps(conformal_thresholds(counted[precision], truth))
    graph = onnx.load_from_string(graphs[precision])
    metadata = {entry.key: entry.value for entry in graph.metadata_props} | metadata
    digest = digest_of(graphs[precision], metadata)
    onnx.helper.set_model_props(graph, metadata | {SHA256: digest})
    return Exported(
        precision,
        graph.SerializeToString(deterministic=True),
        figures,
        quantized,
        trained_on,
        classification_report(truth, counted[precision].argmax(axis=1), run.titles or run.labels),
        model.flip_tta_below,
    )


def measured_rows(run: FinishedRun) -> tuple[Rows, bool]:
    """Trusted images to measure on, and whether the model was trained on them."""
    reasons = np.array(run.reasons, dtype=object)
    validation = np.flatnonzero((reasons == VALIDATION) & (run.proposed != UNKNOWN))
    # A refitted model was trained on all but other validation images than those of labels.csv.
    if len(validation) and not run.record["settings"].get("refit"):
        return spread(validation, MEASURED), False
    # Images that a person decided were picked for being doubtful.
    trusted = (run.trusted != UNKNOWN) & (run.proposed != UNKNOWN) & (reasons != DECIDED)
    return spread(np.flatnonzero(trusted), MEASURED), True


def _measure(
    runtimes: Mapping[str, Runtime],
    graphs: Mapping[str, bytes],
    predicted: Mapping[str, tuple[Probs, Probs]],
    some: Batch,
    truth: Labels,
    *,
    calibrated: bool,
) -> tuple[tuple[Figures, ...], dict[str, Probs]]:
    """The figures of each precision, and its probabilities of the images, which may have calibrated it.

    Parameters
    ----------
    predicted : precision -> P(class) without test-time augmentation and with it
    some : images to take the time of
    """
    first = {name: without for name, (without, _) in predicted.items()}
    probs = {name: augmented for name, (_, augmented) in predicted.items()}
    plain = probs["float32"]

    def halved(found: Probs) -> Probs:
        # Each half is calibrated on float32's other one: on int8's own it would make up for rounding.
        return by_halves(plain, truth, NO_FLOOR, of=found) if calibrated else found

    counted = {name: halved(found) for name, found in probs.items()}
    one, many = _paces(runtimes, np.split(some, len(some))), _paces(runtimes, [some])
    figures = tuple(
        Figures(
            precision=name,
            bytes=len(graph),
            n=len(truth),
            accuracy=_accuracy(counted[name], truth),
            same_class=float((probs[name].argmax(axis=1) == plain.argmax(axis=1)).mean()),
            largest_difference=float(np.abs(probs[name] - plain).max()),
            milliseconds_one=one[name],
            milliseconds_batch=many[name],
            flip_tta_share=float((first[name].max(axis=1) < runtimes[name].flip_tta_below).mean()),
            accuracy_without_tta=_accuracy(halved(first[name]), truth)[0],
        )
        for name, graph in graphs.items()
    )
    return figures, counted


def _accuracy(probs: Probs, truth: Labels) -> tuple[float, float, float]:
    found = wilson(int((probs.argmax(axis=1) == truth).sum()), len(truth))
    return found.estimate, found.low, found.high


def _paces(runtimes: Mapping[str, Runtime], calls: Sequence[Batch]) -> dict[str, float]:
    """Milliseconds an image, the runtimes in turn, so that what disturbs one disturbs the others."""
    best = dict.fromkeys(runtimes, float("inf"))
    for _ in range(ROUNDS):
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            for images in calls:
                runtime.probabilities(images)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: 1000 * seconds / sum(map(len, calls)) for name, seconds in best.items()}


def page_facts(run: FinishedRun) -> dict[str, Any]:
    """What the page of the run's model needs besides the graph, see ``export.web_page``."""
    model, figures = read_model(run.folder), read_facts(run.folder)["systems"].get("assay")
    accuracy = "The accuracy of its model was not measured."
    if figures:
        n, right = figures["n"], interval(figures["accuracy"], figures["n"])
        accuracy = f"Of {n:,} images that it had never seen, the run's model labelled {right} right."
    return {
        "labels": run.titles,
        "size": model.size,
        "interpolation": model.interpolation,
        "flip_tta_below": model.flip_tta_below,
        "threshold": run.record["settings"]["threshold"],
        "accuracy": accuracy,
    }


def export_card(file: str, run_card: str, exported: Exported) -> str:
    """The card of an exported file, in Markdown: its own figures, then the card of its run.

    Parameters
    ----------
    file : name of the file
    run_card : README.md of the run's model
    """
    how = f", by {exported.quantized.how}" if exported.quantized else ""
    below, figures = exported.flip_tta_below, exported.figures[-1]
    on = (
        "that the model was trained on, so only its difference from the file is shown: the accuracy is below."
        if exported.trained_on
        else "that the model was not trained on."
    )
    lines = [
        f"# {file}",
        "",
        f"The model below in {exported.precision}{how}.",
        f"Compared on {figures.n:,} trusted images {on}",
        "Milliseconds are those of the machine that exported it.",
        "",
        *TABLE,
    ]
    for one in exported.figures:
        right = "–" if exported.trained_on else interval(one.right, one.n)
        lines.append(
            f"| {one.precision} | {one.bytes / 1e6:.1f} | {right} "
            f"| {100 * one.same_class:.1f} % | {one.milliseconds_one:.1f} | {one.milliseconds_batch:.1f} |"
        )
    lines.append("")
    if below:
        share = share_of(figures.accuracy_without_tta, figures.n)
        without = "" if exported.trained_on else f": {share} are right then"
        lines += [
            f"Where the likeliest class has less than {below:g}, the image mirrored from left to right is "
            f"predicted too: {100 * figures.flip_tta_share:.0f} % of these images. The result is the "
            "geometric mean of both predictions, normalised. `assay` does so by itself; other programs can "
            f"do so around the file, or go without{without}.",
            "",
        ]
    if not exported.trained_on:
        lines += [f"Each class by {file}, on the same images:", ""]
        lines += ["```", format_report(exported.report).rstrip(), "```", ""]
    return "\n".join([*lines, run_card.rstrip(), ""])
