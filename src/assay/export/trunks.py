"""Trunks: what turns pixels into features, as nodes of an ONNX graph.

``pixels`` is float32 (N, S, S, 3): normalised if the model has mean and std, else 0 to 255.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from assay.embed.histogram import HistogramBackbone
from assay.embed.tiny import TinyBackbone
from assay.errors import GateError
from assay.export.nodes import OURS, Nodes
from assay.predict.graph_check import OPSET


def add_tiny(nodes: Nodes, pixels: str, size: int) -> str:
    """Means and spreads of blocks, as ``TinyBackbone`` has them."""
    blocks = TinyBackbone(size).blocks
    side = size // blocks
    scaled = nodes.apply("Div", pixels, nodes.numbers(255.0))
    grid = nodes.apply("Reshape", scaled, nodes.places(-1, blocks, side, blocks, side, 3))
    means = nodes.apply("ReduceMean", grid, nodes.places(2, 4))  # (N, blocks, 1, blocks, 1, 3)
    offsets = nodes.apply("Sub", grid, means)
    squares = nodes.apply("Mul", offsets, offsets)
    spreads = nodes.apply("Sqrt", nodes.apply("ReduceMean", squares, nodes.places(2, 4)))
    both = nodes.apply("Concat", means, spreads, axis=-1)
    return nodes.apply("Reshape", both, nodes.places(-1, TinyBackbone(size).width))


def add_histogram(nodes: Nodes, pixels: str, size: int) -> str:
    """Shares of pixels in ranges, as ``HistogramBackbone`` has them: whole counts, divided once."""
    bins = HistogramBackbone(size).bins
    # Pixels are whole numbers: one that reaches an edge reaches the next whole number.
    lower = np.ceil(np.linspace(0, 255, bins + 1)[:-1]).astype(np.float32)
    each = nodes.apply("Unsqueeze", pixels, nodes.places(-1))  # (N, S, S, 3, 1)
    reached = nodes.apply("GreaterOrEqual", each, nodes.hold(lower))
    as_numbers = nodes.apply("Cast", reached, to=TensorProto.FLOAT)
    counts = nodes.apply("ReduceSum", as_numbers, nodes.places(1, 2), keepdims=0)  # (N, 3, bins)
    # In a range are those that reach it, less those that reach the next.
    between = np.eye(bins, dtype=np.float32) - np.eye(bins, k=-1, dtype=np.float32)
    within = nodes.apply("MatMul", counts, nodes.hold(between))
    shares = nodes.apply("Div", within, nodes.numbers(float(size * size)))
    return nodes.apply("Reshape", shares, nodes.places(-1, HistogramBackbone(size).width))


WITHOUT_TENSORS: dict[str, Callable[[Nodes, str, int], str]] = {
    "tiny": add_tiny,
    "histogram": add_histogram,
}
"""The trunks that are no torch module."""


def add_network(nodes: Nodes, pixels: str, size: int, network: Any) -> str:
    """What torch's exporter makes of a module from pixels (N, 3, S, S) to features (N, D).

    Raises
    ------
    GateError : an operator that ONNX does not have, or features that depend on the size of the batch
    """
    channels_first = nodes.apply("Transpose", pixels, perm=[0, 3, 1, 2])
    features = f"{OURS}features"
    found = _exported(_not_in_place(network), size, channels_first, features)
    opsets = [(opset.domain, opset.version) for opset in found.opset_import]
    if opsets != [("", OPSET)] or found.functions:
        raise GateError(f"this network cannot be written in opset {OPSET} of ONNX alone: it needs {opsets}")
    for operator in found.graph.node:
        # Traces of the stack, with paths of this machine.
        del operator.metadata_props[:]
        operator.doc_string = ""
    nodes.operators.extend(found.graph.node)
    nodes.tensors.extend(found.graph.initializer)
    return features


def _not_in_place(network: Any) -> Any:
    """A copy that overwrites nothing: an export takes operators in place apart, and twice the time."""
    copy = deepcopy(network).eval()
    for module in copy.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return copy


def _exported(network: Any, size: int, pixels: str, features: str) -> ModelProto:
    import torch
    from torch.onnx import OnnxExporterError

    # Two images, since an exporter takes a batch of one for always one.
    example = torch.zeros(2, 3, size, size)
    with warnings.catch_warnings():
        # torch's exporter calls a form of its own that it has deprecated.
        warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
        try:
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[pixels],
                output_names=[features],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        except OnnxExporterError as error:
            raise GateError(f"this network cannot be written as ONNX: {error}") from error
    assert program is not None  # only with the exporter of old
    proto: ModelProto = program.model_proto
    return proto
