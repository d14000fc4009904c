"""The check of an ONNX file, before anything runs it.

A graph may name other files, call code that is not onnxruntime's own, loop, claim tensors larger than the
memory, or compute them from a few bytes. Ours do none of that, so whatever does is refused.
"""

import hashlib
import json
from collections.abc import Iterator
from math import prod
from typing import Any

from assay.errors import ModelError

OPSET = 18
"""Version of ONNX's operators: every onnxruntime that we allow runs it, and torch exports to it directly."""

INPUT, OUTPUT = "images", "probabilities"

FEATURES_INPUT = "features"
"""The input of a model that takes features."""

OUTLIER_OUTPUT = "outlier_score"
"""The second output of models that have it: above 1 for an image that seems to belong to no class."""

SHA256 = "sha256"
"""The hash of a lone file, in its metadata."""

MAX_GRAPH_BYTES = 2**31
"""protobuf reads no more; what is parsed takes memory in proportion to the file."""

CALL = 8
"""Images in one call at most: 16 take twice the memory (173 MiB for Lite2 at 160 px) and no less time."""

NUMBERS_PER_PIXEL = 2**10
"""That tensors may have at once, for each pixel of the images. Measured: Lite2 has 79, Lite0 in int8 92;
estimated from their layers: VGG 128, ConvNeXt-XL 400, DenseNet-201 620."""

MAX_NUMBERS = 2**27
"""The same for a large image: at 512 px a ViT-L/14 should have 2**26.7."""

_PARTS = {
    *("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"),
    *("graph", "opset_import", "metadata_props"),
}
"""All but training, functions and configurations of devices."""

_MAX_DIMENSIONS = 8

_OPERATORS = {
    *("Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat"),
    *("Constant", "ConstantOfShape", "Conv", "Cos", "DepthToSpace"),
    *("DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor"),
    *("Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "GlobalMaxPool"),
    *("Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity"),
    *("InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log"),
    *("LogSoftmax", "LpNormalization", "LRN", "MatMul", "Max", "MaxPool", "Min", "Mish", "Mod"),
    *("Mul", "Neg", "Not", "Or", "Pad", "Pow", "PRelu", "QuantizeLinear", "Range", "Reciprocal"),
    *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
    *("ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterND", "Selu", "Shape"),
    *("Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth"),
    *("Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Trilu"),
    *("Unsqueeze", "Where"),
}
"""What convolutional networks and transformers of timm are written in."""

_TYPES = {1: "float32", 2: "uint8"}

_ADVICE = "this is not the file that assay wrote: copy the whole model folder again"


def check_graph(graph: bytes, size: int, n_classes: int, width: int = 0) -> bytes:
    """Refuse all but one plain graph from uint8 images (N, size, size, 3) to float32 P(class) (N, K).

    With ``width`` the graph takes float32 features (N, width) instead.

    Returns the file as it was understood: what runs is exactly what was checked.
    """
    model = _parse(graph)
    # A parser that knows more fields than this one must not find any.
    model.DiscardUnknownFields()
    opsets = "; ".join(f"{opset.domain or 'ONNX'} {opset.version}" for opset in model.opset_import)
    _expect("operators", f"ONNX {OPSET}", opsets)
    _refuse(
        "functions, training or other parts", bool({field.name for field, _ in model.ListFields()} - _PARTS)
    )
    _refuse("sparse tensors", bool(model.graph.sparse_initializer))
    takes, gives = f"{INPUT} uint8 (N, {size}, {size}, 3)", f"{OUTPUT} float32 (N, {n_classes})"
    takes = f"{FEATURES_INPUT} float32 (N, {width})" if width else takes
    _expect("input", takes, "; ".join(map(_described, model.graph.input)))
    outputs = [_described(end) for end in model.graph.output]
    if outputs[1:] == [f"{OUTLIER_OUTPUT} float32 (N)"]:
        del outputs[1:]
    _expect("output", gives, "; ".join(outputs))
    for tensor in _tensors(model.graph):
        name, sides = f"tensor {tensor.name!r}", tensor.dims
        _refuse(f"{name} of {len(sides)} dimensions", len(sides) > _MAX_DIMENSIONS)
        _refuse(f"{name} in another file", bool(tensor.data_location or tensor.external_data))
        # Numbers of four bits are the densest: two lie in a byte.
        _refuse(
            f"{name} larger than its data", min(sides, default=0) < 0 or prod(sides) > 2 * tensor.ByteSize()
        )
    _check_memory(model.graph, size, width, len(graph))
    checked: bytes = model.SerializeToString(deterministic=True)
    return checked


def read_metadata(graph: bytes) -> dict[str, str]:
    """The metadata of an ONNX file, key by key."""
    return {entry.key: entry.value for entry in _parse(graph).metadata_props}


def digest_of(graph: bytes, metadata: dict[str, str]) -> str:
    """sha256 of an ONNX file's operators and numbers, and of ``metadata`` but for this hash itself."""
    digest = hashlib.sha256(_parse(graph).graph.SerializeToString(deterministic=True))
    words = sorted((name, text) for name, text in metadata.items() if name != SHA256)
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()


def _parse(graph: bytes) -> Any:
    import onnx

    if len(graph) > MAX_GRAPH_BYTES:
        raise ModelError(f"model.onnx: expected at most {MAX_GRAPH_BYTES:,} bytes, got {len(graph):,}")
    try:
        return onnx.ModelProto.FromString(graph)  # files that it names are not opened
    except Exception as error:  # protobuf's error has no base class, and no types
        raise ModelError(f"model.onnx: expected an ONNX file, got something else ({error})") from error


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors, those in attributes included; other domains and graphs in attributes are refused."""
    yield from graph.initializer
    for node in graph.node:
        _expect(f"domain of {node.op_type}", "", node.domain)
        for attribute in node.attribute:
            held = {field.name for field, _ in attribute.ListFields()}
            nested = held & {"g", "graphs", "sparse_tensor", "sparse_tensors"}
            _refuse(f"graphs or sparse tensors in {node.op_type}", bool(nested))
            if "t" in held:
                yield attribute.t
            yield from attribute.tensors
        _refuse(f"operator {node.op_type}", node.op_type not in _OPERATORS)


def _check_memory(graph: Any, size: int, width: int, n_bytes: int) -> None:
    """Refuse tensors whose size is unknown before the graph runs, or too large together, in any call."""
    from onnx import ModelProto, helper

    # Sides are computed from few numbers; of other tensors, and there are 100 MB of them, the shape will do.
    # What the file claims of the tensors between its operators is left out.
    bare = ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", OPSET)])
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    for tensor in graph.initializer:
        if tensor.ByteSize() < 2**10:
            bare.graph.initializer.append(tensor)
        else:
            shape = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            bare.graph.input.append(shape)
    made = {name for node in graph.node for name in node.output if name}
    sizes = _sizes(bare)
    calls = [sizes]
    if not made <= sizes.keys():  # sides may then grow and shrink with the number of images
        calls = [_sizes(bare, n) for n in range(1, CALL + 1)]
    # onnxruntime computes constants at loading and keeps them; those of int8 are its weights as float32.
    most = CALL * min(NUMBERS_PER_PIXEL * (size**2 + width), MAX_NUMBERS) + 2 * n_bytes
    for sizes in calls:
        for name in made - sizes.keys():
            _refuse(f"tensor {name!r} of unknown shape", True)
        at_once = _most_at_once(graph, sizes, CALL * (size * size * 3 + width))
        if at_once > most:
            raise ModelError(
                f"model.onnx: expected at most {most:,} numbers at once, got {at_once:,}; {_ADVICE}"
            )


def _sizes(bare: Any, n: int | None = None) -> dict[str, int]:
    """Numbers in each tensor whose shape is known, in a call of ``n`` images; without it, of CALL, known only
    where each side is a constant or the number of images.
    """
    from onnx import shape_inference

    n_images = bare.graph.input[0].type.tensor_type.shape.dim[0]
    if n is None:
        n_images.dim_param = "N"
    else:
        n_images.dim_value = n
    try:
        found = shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True).graph.value_info
    except Exception as error:  # two of onnx's, and protobuf's
        raise ModelError(f"model.onnx: expected shapes that fit, got {error}; {_ADVICE}") from error
    sizes = {}
    for value in found:
        tensor = value.type.tensor_type
        sides = [CALL if side.dim_param == "N" else side.dim_value for side in tensor.shape.dim]
        known = (side.dim_param == "N" or side.HasField("dim_value") for side in tensor.shape.dim)
        if tensor.HasField("shape") and all(known):
            sizes[value.name] = prod(sides)
    return sizes


def _most_at_once(graph: Any, sizes: dict[str, int], n_input: int) -> int:
    """Numbers that may be in memory at one time, in whatever order the operators run.

    Where a single tensor leads from the operators so far to all others, every order runs the former first:
    only what lies between two such places can be there together.
    """
    constants = {tensor.name for tensor in graph.initializer}
    last = {name: place for place, node in enumerate(graph.node) for name in node.input}
    last[OUTPUT] = len(graph.node)
    alive, n_constant, n_between, most = {graph.input[0].name: n_input}, 0, n_input, 0
    for place, node in enumerate(graph.node):
        made = {name: sizes[name] for name in node.output if name}
        needed = {name for name in node.input if name} - constants
        _refuse(f"{node.op_type} before what it needs", not needed <= alive.keys())
        if not needed:
            constants |= made.keys()
            n_constant += sum(made.values())
            continue
        alive |= made
        n_between += sum(made.values())
        most = max(most, n_between)
        # What nothing needs is never left out here: it may be computed at any time.
        alive = {name: n for name, n in alive.items() if last.get(name, len(graph.node)) > place}
        if len(alive) == 1:
            n_between = sum(alive.values())
    return n_constant + most


def _described(end: Any) -> str:
    tensor = end.type.tensor_type
    kind = _TYPES.get(tensor.elem_type, f"type {tensor.elem_type}")
    sides = (str(side.dim_value) if side.HasField("dim_value") else "N" for side in tensor.shape.dim)
    return f"{end.name} {kind} ({', '.join(sides)})"


def _expect(what: str, wanted: str, found: str) -> None:
    if found != wanted:
        raise ModelError(f"model.onnx: {what}: expected {wanted or 'none'}, got {found or 'none'}; {_ADVICE}")


def _refuse(what: str, there: bool) -> None:
    if there:
        raise ModelError(f"model.onnx: expected no {what}, got some; {_ADVICE}")
