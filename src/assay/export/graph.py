"""A model as one ONNX graph, from pixels to probabilities.

In the graph: uint8 images (N, S, S, 3), normalised, through the network and the head to P(class) (N, K).
Not in it: decoding, and the resize to S by S, since ONNX does not have Pillow's filter; whoever runs it
does both.
"""

import hashlib
import json
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper
from safetensors.numpy import save

from assay import __version__
from assay.data.resize import in_words
from assay.data.write import escape_surrogates
from assay.export.nodes import Nodes
from assay.export.trunks import WITHOUT_TENSORS, add_network
from assay.predict.graph_check import INPUT, OPSET, OUTPUT
from assay.predict.model import Model

FLIP_TTA = (
    "done by the runtime: where the largest probability is below second_look_below, the same image mirrored "
    "from left to right goes in too, and the geometric mean of both answers, divided by its sum, counts"
)


def build_graph(model: Model, trunk: Any = None) -> bytes:
    """The ONNX file of a model; the same model gives the same bytes.

    Parameters
    ----------
    trunk : see ``export.with_graph``

    Raises
    ------
    GateError : ONNX cannot say what the trunk does
    """
    nodes = Nodes()
    pixels = _add_pixels(nodes, model)
    if trunk is None:
        features = WITHOUT_TENSORS[model.architecture](nodes, pixels, model.size)
    else:
        features = add_network(nodes, pixels, model.size, trunk)
    _add_head(nodes, model, features)
    takes = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", model.size, model.size, 3])
    gives = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", len(model.labels)])
    graph = helper.make_graph(nodes.operators, "assay", [takes], [gives], nodes.tensors)
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="assay")
    helper.set_model_props(made, _metadata(model))
    checker.check_model(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def _add_pixels(nodes: Nodes, model: Model) -> str:
    pixels = nodes.apply("Cast", INPUT, to=TensorProto.FLOAT)
    if not model.mean:
        return pixels
    mean, std = np.array(model.mean), np.array(model.std)
    scaled = nodes.apply("Mul", pixels, nodes.numbers(*(1 / (255 * std))))
    return nodes.apply("Sub", scaled, nodes.numbers(*(mean / std)))


def _add_head(nodes: Nodes, model: Model, features: str) -> None:
    head = model.head
    values = nodes.apply("Sub", features, nodes.hold(head.mean))
    values = nodes.apply("Div", values, nodes.hold(head.scale))
    for layer in range(0, len(head.weights), 2):
        if layer:
            values = _add_activation(nodes, values, head.activation)
        weight, bias = head.weights[layer : layer + 2]
        values = nodes.apply("Gemm", values, nodes.hold(weight), nodes.hold(bias))
    if head.rounded:
        values = nodes.apply("Round", values)
    nodes.apply("Softmax", values, name=OUTPUT, axis=1)


def _add_activation(nodes: Nodes, values: str, activation: str) -> str:
    if activation == "relu":
        return nodes.apply("Relu", values)
    # The exact GELU: this opset has no operator for it, and onnxruntime knows this form.
    curved = nodes.apply("Erf", nodes.apply("Mul", values, nodes.numbers(0.5**0.5)))
    share = nodes.apply("Add", curved, nodes.numbers(1.0))
    return nodes.apply("Mul", nodes.apply("Mul", values, nodes.numbers(0.5)), share)


def _flip_tta(below: float) -> dict[str, str]:
    return {"flip_tta_below": str(below), "flip_tta": FLIP_TTA} if below else {}


def _metadata(model: Model) -> dict[str, str]:
    """What somebody needs who has the graph alone."""
    tensors = {f"backbone.{name}": tensor for name, tensor in model.backbone.items()} | model.head.tensors()
    scaled = f"(pixel / 255 - {list(model.mean)}) / {list(model.std)} a channel" if model.mean else "none"
    return {
        "assay_version": __version__,
        "architecture": model.architecture,
        # The names of folders need not be UTF-8, the texts of a graph must.
        "labels": escape_surrogates(json.dumps(model.labels, ensure_ascii=False)),
        "titles": escape_surrogates(json.dumps(model.titles, ensure_ascii=False)),
        "size": str(model.size),
        "interpolation": model.interpolation,
        "resize": f"done by the runtime: {in_words(model.interpolation)}",
        "preprocessing": f"in the graph: {scaled}",
        "conformal": json.dumps(model.facts.get("conformal", {})),
        **_flip_tta(model.flip_tta_below),
        "tensors_sha256": hashlib.sha256(
            save({name: np.asarray(tensor, order="C") for name, tensor in sorted(tensors.items())})
        ).hexdigest(),
    }
