"""A model's graph with smaller numbers: 16-bit floats, or 8-bit integers by calibration behind a gate.

Inputs and outputs stay as they are, so whatever runs the graph needs no change.

int8 is static: each tensor's range is measured on a few images, and numbers become multiples of a step, one
for each output channel of a weight (Jacob et al. 2018, arXiv:1712.05877), written as QuantizeLinear and
DequantizeLinear around the operators.
Biases then take back what rounding shifts on average (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
"""

import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float, UInt8
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from assay.errors import GateError
from assay.export.graph import OURS, add_outlier_score_of, without_outlier_score
from assay.predict.graph_check import INPUT, OPSET, OUTPUT
from assay.predict.model import Model
from assay.predict.runtime import Runtime, load_runtime
from assay.types import Batch, Labels, Probs, Progress, silent

CALIBRATION_BATCH = 4
"""Images that are calibrated on at once: all outputs inside the graph are held, some 32 MB for each image."""

BIAS_IMAGES = 32
"""Biases are corrected on as many images at most; 128 came no nearer to the float32 probabilities."""

MAX_LOSS = 0.005
"""Share of the gate's images: how much accuracy int8 may cost."""

FEW = 200
"""A gate of fewer images is weak evidence: of ten, one gained makes up for one lost."""

MIN_AGREEMENT = 0.95
"""Share of the compared images of which int8 must predict the same class where the gate has few images."""

FLOAT_CONVOLUTIONS = (1, 4, 12)
"""First convolutions that stay float32 where int8 alone fails."""

TINY = 1e-6
"""Stands for a probability of 0, whose logarithm does not exist."""

LAYERS = ("Conv", "Gemm")

MEANS = ("ReduceMean", "GlobalAveragePool")

RANGES = {"ranges of all images": 0.0, "ranges of nine images in ten": 0.1}
"""Share of the images whose least value may lie below a tensor's range, and whose largest may lie above."""


@dataclass(frozen=True)
class Quantization:
    """How numbers become 8-bit integers."""

    ranges: str
    """A key of ``RANGES``."""
    bias_correction: bool = True
    """No slower to predict, ten seconds to make."""
    n_float_convolutions: int = 0
    """Convolutions that stay float32, from the image on: the first ones are small and lose most."""

    def __str__(self) -> str:
        corrected = ", biases corrected" if self.bias_correction else ""
        n = self.n_float_convolutions
        return f"{self.ranges}{corrected}" + (f", first {n} convolutions in float32" if n else "")


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
    predict: Callable[[Runtime], Probs],
    trusted: Labels,
    *,
    progress: Progress = silent,
) -> Quantized:
    """The model's graph in int8, behind a gate: the best of several ways, if it costs next to no accuracy.

    The ways are compared by how near their probabilities are to the float32 model's, without labels; only the
    best, its biases corrected, is measured on the gate's labels. Where it fails, more and more of the first
    convolutions go back to float32 until it passes: the accuracy is then the best of a few, slightly
    optimistic.

    Parameters
    ----------
    calibration : images on which ranges are measured
    compared : other images, on which the ways are compared
    predict, trusted : P(class) (N, K) of the gate's images by a runtime, and their labels (N,)
    """
    plain = load_runtime(model)
    expected = plain.without_tta(compared)
    calibrated = calibrate_graph(model.graph, calibration)

    def n_right(runtime: Runtime) -> int:
        return int((predict(runtime).argmax(axis=1) == trusted).sum())

    def attempt(how: Quantization) -> tuple[bytes, Runtime, Attempt]:
        graph = to_int8(calibrated, how)
        runtime = load_runtime(replace(model, graph=graph))
        found = runtime.without_tta(compared)
        agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
        one, other = np.maximum(expected, TINY), np.maximum(found, TINY)
        divergence = float((one * np.log(one / other)).sum(axis=1).mean())
        return graph, runtime, Attempt(how, divergence, agreement)

    # Never one step for a whole weight: its probabilities were twenty times as far from float32's.
    ways = [Quantization(ranges, bias_correction=False) for ranges in RANGES]
    attempts = []
    for number, how in enumerate(ways):
        attempts.append(attempt(how)[-1])
        progress("quantize", number + 1, len(ways))
    nearest = min(attempts, key=lambda one: one.divergence)
    n, before = len(trusted), n_right(plain)
    n_convolutions = sum(node.op_type == "Conv" for node in onnx.load_from_string(model.graph).graph.node)
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


# ---- graphs ----


def to_float16(graph: bytes) -> bytes:
    """The graph with 16-bit weights and arithmetic; phones and GPUs have it, most CPUs convert."""
    network = onnx.load_from_string(without_outlier_score(graph))
    made = convert_float_to_float16(network, keep_io_types=True)
    return _finished(made, onnx.load_from_string(graph), "float16")


@dataclass(frozen=True)
class CalibratedGraph:
    """A float32 graph and the range of each tensor in each calibration image."""

    source: Any
    """The ONNX model as it was exported."""
    plain: Any
    """The same without outlier score, simplified, each tensor with its shape."""
    lows: Mapping[str, Float[np.ndarray, "R"]]
    """Least value of each tensor in each image."""
    highs: Mapping[str, Float[np.ndarray, "R"]]
    """Largest value of each tensor in each image."""
    images: Batch
    """Those that biases are corrected on."""


def calibrate_graph(graph: bytes, images: Batch) -> CalibratedGraph:
    """Measure the ranges of all tensors on ``images`` (R, S, S, 3), a few at a time."""
    network = onnx.load_from_string(without_outlier_score(graph))
    for node in network.graph.node:
        node.name = node.name or node.output[0]  # nodes are excluded by name
    with tempfile.TemporaryDirectory() as folder, _silent():
        whole, prepared = Path(folder) / "whole.onnx", Path(folder) / "prepared.onnx"
        onnx.save(network, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        plain = onnx.load(prepared)
    values = (*plain.graph.value_info, *plain.graph.output)
    tensors = sorted(value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT)
    lows: dict[str, list[float]] = {name: [] for name in tensors}
    highs: dict[str, list[float]] = {name: [] for name in tensors}
    session = _session_with_outputs(plain, tensors)
    # onnxruntime's own calibration holds what all images give at once: gigabytes.
    for start in range(0, len(images), CALIBRATION_BATCH):
        batch = images[start : start + CALIBRATION_BATCH]
        for name, found in zip(tensors, session.run(tensors, {INPUT: batch}), strict=True):
            each = found.reshape(len(batch), -1)
            lows[name].extend(each.min(axis=1))
            highs[name].extend(each.max(axis=1))
    return CalibratedGraph(
        onnx.load_from_string(graph),
        plain,
        {name: np.array(found) for name, found in lows.items()},
        {name: np.array(found) for name, found in highs.items()},
        images[:BIAS_IMAGES],
    )


def to_int8(calibrated: CalibratedGraph, how: Quantization) -> bytes:
    """The graph with 8-bit weights and activations."""
    share, plain = RANGES[how.ranges], calibrated.plain
    ranges = {
        name: (
            np.quantile(calibrated.lows[name], share).astype(np.float32),
            np.quantile(calibrated.highs[name], 1 - share).astype(np.float32),
        )
        for name in calibrated.lows
    }
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    with _silent():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            # Weights of seven bits. Processors without 8-bit dot products add two products in 16 bits, which
            # cut off larger ones: the same file would predict something else on a phone or in a browser.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=_float_nodes(plain, how.n_float_convolutions),
            op_types_to_quantize=[*QLinearOpsRegistry, *QDQRegistry],
            extra_options={},
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    if how.bias_correction:
        _correct_biases(quantized, plain, calibrated.images)
    return _finished(quantized, calibrated.source, "int8")


def _float_nodes(model: Any, n_convolutions: int) -> list[str]:
    """Names of the nodes that stay float32.

    These are the first convolutions with all before them, and what stands around the network: next to no
    work, and features have ranges of their own, which one step for all of them would coarsen.
    """
    nodes = list(model.graph.node)
    convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"][:n_convolutions]
    first = nodes[: convolutions[-1] + 1] if convolutions else []
    around = [
        node
        for node in nodes
        if node.op_type in MEANS
        or (node.op_type != "Gemm" and (node.output[0].startswith(OURS) or node.output[0] == OUTPUT))
    ]
    return [node.name for node in (*around, *first)]


def _correct_biases(quantized: Any, plain: Any, images: Batch) -> None:
    """Bring each channel's mean output back to what it is in float32, layer by layer, in place."""
    layers = {node.name: node.output[0] for node in plain.graph.node if node.op_type in LAYERS}
    wanted = _channel_means(plain, list(layers.values()), images)
    held = {tensor.name: tensor for tensor in quantized.graph.initializer}
    made_by = {output: node for node in quantized.graph.node for output in node.output}
    for place, node in enumerate(quantized.graph.node):
        source = made_by.get(node.input[2]) if node.op_type in LAYERS and len(node.input) > 2 else None
        if source is None or source.op_type != "DequantizeLinear":  # no layer, or one in float32
            continue
        # In the order in which they run: what comes later sees the layers before it corrected already.
        shorter = onnx.ModelProto()
        shorter.CopyFrom(quantized)
        del shorter.graph.node[place + 1 :]
        found = _channel_means(shorter, [node.output[0]], images)[node.output[0]]
        bias, scale = (held[name] for name in source.input[:2])
        step = numpy_helper.to_array(scale).astype(np.float64)  # a number, or one for each channel
        moved = numpy_helper.to_array(bias) + np.round((wanted[layers[node.name]] - found) / step)
        as_int32 = np.clip(moved, -(2**31), 2**31 - 1).astype(np.int32)
        bias.CopyFrom(numpy_helper.from_array(as_int32, bias.name))


def _channel_means(model: Any, outputs: Sequence[str], images: Batch) -> dict[str, np.ndarray]:
    """Mean (C,) of each channel of each output (N, C, ...), over images and positions."""
    session = _session_with_outputs(model, outputs)
    totals = dict.fromkeys(outputs, np.zeros(1))
    for start in range(0, len(images), CALIBRATION_BATCH):
        batch = images[start : start + CALIBRATION_BATCH]
        for name, values in zip(outputs, session.run(list(outputs), {INPUT: batch}), strict=True):
            positions = tuple(axis for axis in range(values.ndim) if axis != 1)
            totals[name] = totals[name] + len(batch) * values.mean(axis=positions, dtype=np.float64)
    return {name: total / len(images) for name, total in totals.items()}


def _session_with_outputs(model: Any, outputs: Sequence[str]) -> Any:
    """A session of onnxruntime that gives float tensors from inside the graph."""
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    del measured.graph.output[:]
    measured.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # the arena would keep what the largest batch needed
    return onnxruntime.InferenceSession(
        measured.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _finished(made: Any, source: Any, precision: str) -> bytes:
    """The new graph with metadata and outlier score of the old one, without what tools left behind."""
    del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid("", OPSET))
    made.producer_name, made.producer_version = source.producer_name, source.producer_version
    metadata = {entry.key: entry.value for entry in source.metadata_props}
    helper.set_model_props(made, metadata | {"precision": precision})
    add_outlier_score_of(source.graph, made.graph)
    for node in made.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


@contextmanager
def _silent() -> Iterator[None]:
    # The quantizer prints what it does; stdout is for results.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
