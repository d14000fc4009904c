"""A model's graph with smaller numbers: of 16 bits, or of 8 bits by calibration.

Pixels go in and probabilities come out as before, so whatever runs the graph needs no change.

int8 is static: each tensor's range is read off a few images, then numbers are whole multiples of a step
(Jacob et al. 2018, arXiv:1712.05877), written as QuantizeLinear and DequantizeLinear around the operators.
What leads to the first layer and from feature to feature stays in float32: next to no work, and the features
have ranges of their own, which one step for all of them would coarsen. Biases make up for what is left.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from assay.export.nodes import OURS
from assay.export.shifts import shift_back
from assay.predict.graph_check import INPUT, OPSET, OUTPUT
from assay.types import Batch

BATCH = 32
"""Images that are calibrated on at a time."""

MEANS = ("ReduceMean", "GlobalAveragePool")

SHIFTED = 128
"""Of those, biases are corrected on as many at most."""

METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
"""Which range a tensor gets: all that was seen, or all but a hundred-thousandth at either end."""


@dataclass(frozen=True)
class Quantisation:
    """How numbers become whole numbers of 8 bits."""

    per_channel: bool
    """A step for each output channel of a weight, or one for the whole weight."""
    method: str
    """A key of ``METHODS``."""
    shifted: bool = True
    """Whether biases make up for what rounding shifts: no slower to predict, but some seconds to make."""
    kept: int = 0
    """Convolutions that stay as they are, from the image on: the first ones are small and lose most."""

    def __str__(self) -> str:
        channels = "each channel" if self.per_channel else "each tensor"
        shifted = ", biases corrected" if self.shifted else ""
        kept = f", first {self.kept} convolutions in float32" if self.kept else ""
        return f"{self.method} of {channels}{shifted}{kept}"


def to_float16(graph: bytes) -> bytes:
    """The graph with weights and arithmetic of 16 bits; phones and GPUs have it, most processors convert."""
    model = onnx.load_from_string(graph)
    return _finished(convert_float_to_float16(model, keep_io_types=True), model, "float16")


def to_int8(graph: bytes, images: Batch, how: Quantisation) -> bytes:
    """The graph with weights and activations of 8 bits.

    Parameters
    ----------
    images : (N, S, S, 3), one or more, like those that it will see
    """
    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        # Nodes are chosen by name, and ours have none.
        node.name = node.name or node.output[0]
    with tempfile.TemporaryDirectory() as folder, _silent():
        whole, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("whole", "prepared", "int8"))
        onnx.save(model, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        plain = onnx.load(prepared)
        quantize_static(
            prepared,
            made,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=how.per_channel,
            calibrate_method=METHODS[how.method],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*_in_passing(plain), *_first_convolutions(plain, how.kept)],
        )
        rounded = onnx.load(made)
        if how.shifted:
            shift_back(rounded, plain, images[:SHIFTED])
        return _finished(rounded, model, "int8")


def count_convolutions(graph: bytes) -> int:
    """How many convolutions a graph has."""
    return len(_convolutions(onnx.load_from_string(graph)))


class _Reader:
    """Hands out images, as the calibration asks for them."""

    def __init__(self, images: Batch) -> None:
        # All of one length, or onnxruntime cannot put what it collects side by side: a few are left over.
        parts = -(-len(images) // BATCH)
        self._parts = iter(np.split(images[: len(images) - len(images) % parts], parts))

    def get_next(self) -> dict[str, Batch] | None:
        """The next input of the graph; None after the last."""
        part = next(self._parts, None)
        return None if part is None else {INPUT: part}


def _in_passing(model: Any) -> list[str]:
    """Names of what this project wrote around the network, and of the means that features are; no layers."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type in MEANS
        or (node.op_type != "Gemm" and (node.output[0].startswith(OURS) or node.output[0] == OUTPUT))
    ]


def _convolutions(model: Any) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def _first_convolutions(model: Any, n: int) -> list[str]:
    """Names of the first convolutions and of all that happens before the last of them."""
    if n == 0:
        return []
    names = [node.name for node in model.graph.node]
    last = _convolutions(model)[:n][-1:]
    return names[: names.index(last[0]) + 1] if last else []


def _finished(made: Any, source: Any, precision: str) -> bytes:
    """The new graph with the metadata of the old one, and nothing that a tool left behind."""
    del made.opset_import[:]
    made.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    made.producer_name, made.producer_version = source.producer_name, source.producer_version
    told = {entry.key: entry.value for entry in source.metadata_props}
    onnx.helper.set_model_props(made, told | {"precision": precision})
    for node in made.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


@contextmanager
def _silent() -> Iterator[None]:
    """The quantiser prints what it does; stdout is for results."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
