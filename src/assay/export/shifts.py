"""What rounding to int8 shifts on average is shifted back, by the biases: they cost nothing when predicting.

Bias correction of Nagel et al. 2019, arXiv:1906.04721, section 4.2: layer by layer, in the order in which
they run, the mean of each channel of a layer's output on a few images, the layers before it corrected
already, is brought to what it is in float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float
from onnx import TensorProto, helper, numpy_helper

from assay.predict.graph_check import INPUT
from assay.types import Batch

LAYERS = ("Conv", "Gemm")

TOGETHER = 16
"""Images in one call: less than a batch, since outputs inside a graph are large."""

Means = Float[np.ndarray, "C"]


def shift_back(rounded: Any, plain: Any, images: Batch) -> None:
    """Correct the biases of an int8 graph in place.

    Parameters
    ----------
    rounded : onnx model with QuantizeLinear and DequantizeLinear around its operators
    plain : the model that it was made of; its nodes have the same names
    images : (N, S, S, 3), one or more, like those that it will see
    """
    layers = {node.name: node for node in plain.graph.node if node.op_type in LAYERS}
    wanted = _means(plain, [node.output[0] for node in layers.values()], images)
    for node, bias in _biased(rounded):
        output = node.output[0]
        found = _means(_up_to(rounded, node), [output], images)[output]
        bias.move(wanted[layers[node.name].output[0]] - found)


@dataclass(frozen=True)
class _Bias:
    """Whole numbers of 32 bits, and the step that they are multiples of."""

    held: Any
    step: Float[np.ndarray, "..."]
    """A number, or one for each channel."""

    def move(self, by: Means) -> None:
        """Add to each channel, as near as its step allows."""
        steps = np.round(by / self.step)
        moved = np.clip(numpy_helper.to_array(self.held) + steps, -(2**31), 2**31 - 1)
        self.held.CopyFrom(numpy_helper.from_array(moved.astype(np.int32), self.held.name))


def _biased(rounded: Any) -> Iterator[tuple[Any, _Bias]]:
    """The layers in the order in which they run, each with its bias; those that stayed float32 are passed."""
    held = {tensor.name: tensor for tensor in rounded.graph.initializer}
    made_by = {output: node for node in rounded.graph.node for output in node.output}
    for node in rounded.graph.node:
        source = made_by.get(node.input[2]) if node.op_type in LAYERS and len(node.input) > 2 else None
        if source is not None and source.op_type == "DequantizeLinear":
            whole, step = (held[name] for name in source.input[:2])
            yield node, _Bias(whole, numpy_helper.to_array(step).astype(np.float64))


def _up_to(model: Any, last: Any) -> Any:
    """The model without what comes after a node."""
    nodes = list(model.graph.node)
    shorter = onnx.ModelProto()
    shorter.CopyFrom(model)
    del shorter.graph.node[nodes.index(last) + 1 :]
    return shorter


def _means(model: Any, outputs: Sequence[str], images: Batch) -> dict[str, Means]:
    """Of each channel of each output (N, C, ...), over images and places."""
    told = onnx.ModelProto()
    told.CopyFrom(model)
    del told.graph.output[:]
    told.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        told.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    totals = dict.fromkeys(outputs, np.zeros(1))
    for start in range(0, len(images), TOGETHER):
        part = images[start : start + TOGETHER]
        for name, values in zip(outputs, session.run(list(outputs), {INPUT: part}), strict=True):
            places = tuple(axis for axis in range(values.ndim) if axis != 1)
            totals[name] = totals[name] + len(part) * values.mean(axis=places, dtype=np.float64)
    return {name: total / len(images) for name, total in totals.items()}
