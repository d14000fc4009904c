"""A model as one ONNX graph, uint8 images (N, S, S, 3) or float32 features (N, D) in, P(class) (N, K) out, if
it predicts what the model predicts. Decoding and resizing stay outside, because ONNX has no equivalent of
Pillow's filters.
"""

import hashlib
import json
import warnings
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, checker, helper, numpy_helper
from safetensors.numpy import save

from assay import __version__
from assay.correct.outliers import DEPTH, FAR, NEAR, OutlierScorer, last_slope
from assay.data.resize import in_words
from assay.data.write import escape_surrogates
from assay.embed.device import one_torch_thread
from assay.embed.tiny import HistogramBackbone, TinyBackbone
from assay.errors import GateError, MissingExtraError, ModelError
from assay.predict.graph_check import FEATURES_INPUT, INPUT, OPSET, OUTLIER_OUTPUT, OUTPUT
from assay.predict.model import Model
from assay.predict.runtime import BATCH, load_runtime
from assay.types import Batch, Matrix

OURS = "assay-"
"""Prefix of the names around the network; the dash keeps them apart from torch's, which are identifiers."""

MOST_BEYOND = 1e6
"""Of a measure beyond its last knot: what is so far out need not be told apart."""

MAX_DIFFERENCE = 1e-3
"""Of two probabilities of one class of one image."""

MIN_AGREEMENT = 0.999
"""Share of images of which both predict the same class."""

FLIP_TTA = (
    "done by the runtime: where the largest probability is below flip_tta_below, the image mirrored from "
    "left to right is predicted too, and the geometric mean of both predictions, normalised, is the result"
)


def with_graph(
    model: Model, trunk: Any, images: Batch | Matrix, scorer: OutlierScorer | None = None
) -> Model:
    """The model with its graph, and their agreement on ``images`` among its facts, under ``parity``.

    Parameters
    ----------
    trunk : torch module from float32 pixels (N, 3, S, S) to features (N, D); pixels are
        ``(pixel / 255 - mean) / std`` if the model has a mean, else 0 to 255. None for ``tiny``,
        ``histogram`` and a model of features
    images : what the model takes
    scorer : gives the graph its second output, the outlier score
    """
    features = _features(model, trunk, images)
    if features.shape[1] != len(model.head.mean):
        raise ModelError(
            f"expected {len(model.head.mean)} features, as the head has, "
            f"got {features.shape[1]} of the trunk of {model.architecture!r}"
        )
    exported = replace(model, graph=build_graph(model, trunk, scorer))
    return replace(exported, facts={**model.facts, "parity": check_parity(exported, features, images)})


def check_parity(model: Model, features: Matrix, images: Batch | Matrix) -> dict[str, Any]:
    """Compare the graph on images with the head on their features; GateError where they disagree."""
    expected, found = model.probabilities(features), load_runtime(model).without_tta(images)
    largest = float(np.abs(expected - found).max(initial=0))
    agree = expected.argmax(axis=1) == found.argmax(axis=1)
    same_class = float(agree.mean()) if len(agree) else 1.0
    # Not "greater than": NaN must not pass.
    if not (largest <= MAX_DIFFERENCE and same_class >= MIN_AGREEMENT):
        raise GateError(
            f"the exported model differs from the trained one: of {len(images):,} images expected the same "
            f"class for {MIN_AGREEMENT:.1%} and probabilities within {MAX_DIFFERENCE}, "
            f"got {same_class:.1%} and {largest:.4f}; please report the backbone {model.architecture}"
        )
    return {"n": len(images), "largest_difference": float(f"{largest:.1e}"), "same_class": same_class}


def _features(model: Model, trunk: Any, images: Batch | Matrix) -> Matrix:
    if trunk is None:
        if model.width:
            return images
        if model.architecture == "tiny":
            return TinyBackbone(model.size).embed(images)
        if model.architecture == "histogram":
            return HistogramBackbone(model.size).embed(images)
        raise ModelError(f"expected the trunk of {model.architecture!r}, got none")
    import torch

    trunk.eval()
    parts = []
    # Where other programs compute too, threads of torch wait for each other: four times the CPU time.
    with torch.inference_mode(), one_torch_thread():
        for start in range(0, len(images), BATCH):
            pixels = (
                torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).float()
            )  # (B, 3, S, S)
            if model.mean:
                mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
                pixels = (pixels / 255 - mean) / std
            parts.append(trunk(pixels))
    found: Matrix = torch.cat(parts).numpy()
    return found


# ---- the graph ----


@dataclass
class Nodes:
    """A graph while it is being built."""

    operators: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)

    def apply(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operator and return the name of its output, ``name`` or a new one."""
        name = name or f"{OURS}{len(self.operators)}"
        self.operators.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def hold(self, values: np.ndarray, name: str = "") -> str:
        """Store an array in the graph and return its name."""
        name = name or f"{OURS}held-{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def floats(self, *values: float) -> str:
        """Store float32 numbers, (len(values),)."""
        return self.hold(np.array(values, dtype=np.float32))

    def ints(self, *values: int) -> str:
        """Store int64 numbers: axes or sides."""
        return self.hold(np.array(values, dtype=np.int64))


def build_graph(model: Model, trunk: Any = None, scorer: OutlierScorer | None = None) -> bytes:
    """The ONNX file of a model; the same arguments, see ``with_graph``, give the same bytes."""
    nodes, side = Nodes(), model.size
    if model.width:
        takes = helper.make_tensor_value_info(FEATURES_INPUT, TensorProto.FLOAT, ["N", model.width])
        features = FEATURES_INPUT
    else:
        takes = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", side, side, 3])
        features = _add_backbone(nodes, model, trunk)
    _add_head(nodes, model, features)
    gives = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", len(model.labels)])]
    if scorer is not None:
        _add_outlier_score(nodes, scorer, features)
        gives.append(helper.make_tensor_value_info(OUTLIER_OUTPUT, TensorProto.FLOAT, ["N"]))
    graph = helper.make_graph(nodes.operators, "assay", [takes], gives, nodes.tensors)
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="assay")
    helper.set_model_props(made, _metadata(model))
    checker.check_model(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def _add_backbone(nodes: Nodes, model: Model, trunk: Any) -> str:
    """From pixels to features."""
    pixels = nodes.apply("Cast", INPUT, to=TensorProto.FLOAT)  # (N, S, S, 3)
    if model.mean:
        mean, std = np.array(model.mean), np.array(model.std)
        scaled = nodes.apply("Mul", pixels, nodes.floats(*(1 / (255 * std))))
        pixels = nodes.apply("Sub", scaled, nodes.floats(*(mean / std)))
    if trunk is not None:
        return _add_network(nodes, pixels, model.size, trunk)
    if model.architecture == "tiny":
        return _add_tiny(nodes, pixels, model.size)
    return _add_histogram(nodes, pixels, model.size)


def _add_tiny(nodes: Nodes, pixels: str, size: int) -> str:
    """Means and standard deviations of blocks, as ``TinyBackbone`` computes them."""
    blocks = TinyBackbone(size).blocks
    side = size // blocks
    scaled = nodes.apply("Div", pixels, nodes.floats(255.0))
    grid = nodes.apply("Reshape", scaled, nodes.ints(-1, blocks, side, blocks, side, 3))
    means = nodes.apply("ReduceMean", grid, nodes.ints(2, 4))  # (N, blocks, 1, blocks, 1, 3)
    offsets = nodes.apply("Sub", grid, means)
    squares = nodes.apply("Mul", offsets, offsets)
    spreads = nodes.apply("Sqrt", nodes.apply("ReduceMean", squares, nodes.ints(2, 4)))
    both = nodes.apply("Concat", means, spreads, axis=-1)
    return nodes.apply("Reshape", both, nodes.ints(-1, TinyBackbone(size).width))


def _add_histogram(nodes: Nodes, pixels: str, size: int) -> str:
    """Shares of pixels in ranges, as ``HistogramBackbone`` computes them: whole counts, divided once."""
    bins = HistogramBackbone(size).bins
    # Pixels are whole numbers: one that reaches an edge reaches the next whole number.
    lower = np.ceil(np.linspace(0, 255, bins + 1)[:-1]).astype(np.float32)
    each = nodes.apply("Unsqueeze", pixels, nodes.ints(-1))  # (N, S, S, 3, 1)
    reached = nodes.apply("GreaterOrEqual", each, nodes.hold(lower))
    as_numbers = nodes.apply("Cast", reached, to=TensorProto.FLOAT)
    counts = nodes.apply("ReduceSum", as_numbers, nodes.ints(1, 2), keepdims=0)  # (N, 3, bins)
    # Pixels in a range are those that reach its edge less those that reach the next.
    between = np.eye(bins, dtype=np.float32) - np.eye(bins, k=-1, dtype=np.float32)
    within = nodes.apply("MatMul", counts, nodes.hold(between))
    shares = nodes.apply("Div", within, nodes.floats(float(size * size)))
    return nodes.apply("Reshape", shares, nodes.ints(-1, HistogramBackbone(size).width))


def _add_network(nodes: Nodes, pixels: str, size: int, network: Any) -> str:
    """A torch module from pixels (N, 3, S, S) to features (N, D)."""
    import torch

    channels_first = nodes.apply("Transpose", pixels, perm=[0, 3, 1, 2])
    copy = deepcopy(network).eval()
    for module in copy.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # an operator in place is exported as several, in twice the time
    # Two images, since exporters take a batch of one to be a constant.
    example = torch.zeros(2, 3, size, size)
    with warnings.catch_warnings():
        # torch.export uses a class of its own that it has deprecated.
        warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
        try:
            part, features = _translate(copy, example, channels_first)
        except Exception:  # noqa: BLE001  # torch.export's errors have no common class; torch.onnx reports them
            part, features = _by_torch(copy, example, channels_first)
    nodes.operators += part.operators
    nodes.tensors += part.tensors
    return features


def _translate(  # noqa: C901, PLR0912, PLR0915  # a table of operators
    network: Any, example: Any, pixels: str
) -> tuple[Nodes, str]:
    """Nodes of a plain convolutional network, and the name of their output; LookupError for another operator.

    torch.onnx takes four times as long for the same graph: it traces twice, then optimises what it wrote.
    """
    import torch

    program = torch.export.export(
        network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
    )
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    nodes, names = Nodes(), {signature.user_inputs[0]: pixels}
    pads: dict[str, tuple[Any, list[int]]] = {}

    def name_of(value: Any) -> str:
        if value.name not in names:
            array = program.state_dict[stored[value.name]].detach().numpy()
            names[value.name] = nodes.hold(array, stored[value.name])
        return names[value.name]

    def bound(edge: float) -> str:
        key = f"bound {edge:g}"
        if key not in names:
            names[key] = nodes.hold(np.array(edge, dtype=np.float32), key)
        return names[key]

    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        apply = partial(nodes.apply, name=node.name)
        match str(node.target), node.args, node.kwargs:
            case "aten._assert_tensor_metadata.default", _, _:
                continue
            case "aten.to.dtype", (x, torch.float32), _:
                names[node.name] = name_of(x)
            case "aten.pad.default", (x, [_, _, _, _] as sides, *fill), _ if fill in ([], ["constant", 0.0]):
                pads[node.name] = x, sides  # no name: only a convolution can take it
            case "aten.conv2d.default", (x, weight, *rest), _:
                defaults: list[Any] = [None, [1, 1], [0, 0], [1, 1], 1]
                bias, stride, padding, dilation, groups = [*rest, *defaults[len(rest) :]]
                x, (left, right, top, bottom) = pads.get(x.name, (x, [0, 0, 0, 0]))
                down, across = padding
                names[node.name] = apply(
                    "Conv",
                    *map(name_of, [x, weight] if bias is None else [x, weight, bias]),
                    strides=stride,
                    pads=[down + top, across + left, down + bottom, across + right],
                    dilations=dilation,
                    group=groups,
                )
            case "aten.hardtanh.default", (x, low, high), _:
                names[node.name] = apply("Clip", name_of(x), bound(low), bound(high))
            case "aten.relu.default", (x,), _:
                names[node.name] = apply("Relu", name_of(x))
            case "aten.sigmoid.default", (x,), _:
                names[node.name] = apply("Sigmoid", name_of(x))
            case "aten.silu.default", (x,), _:
                gate = nodes.apply("Sigmoid", name_of(x), name=f"{node.name}.gate")
                names[node.name] = apply("Mul", name_of(x), gate)
            case "aten.mul.Tensor", (x, torch.fx.Node() as y), _:
                names[node.name] = apply("Mul", name_of(x), name_of(y))
            case "aten.add.Tensor", (x, y), {} if not node.kwargs:
                names[node.name] = apply("Add", name_of(x), name_of(y))
            case "aten.mean.dim", (x, axes, *keep), {} if not node.kwargs:
                held = nodes.hold(np.array(axes), f"{node.name}.axes")
                names[node.name] = apply("ReduceMean", name_of(x), held, keepdims=int(any(keep)))
            case "aten.cat.default", (parts, axis), _:
                names[node.name] = apply("Concat", *map(name_of, parts), axis=axis)
            case other, _, _:
                raise LookupError(other)
    return nodes, names[signature.user_outputs[0]]


def _by_torch(network: Any, example: Any, pixels: str) -> tuple[Nodes, str]:
    """The same by torch's exporter, for any network."""
    import torch
    from torch.onnx import OnnxExporterError

    if find_spec("onnxscript") is None:
        raise MissingExtraError("onnxscript", "train")
    features = f"{OURS}features"
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
    assert program is not None  # only None with the exporter for TorchScript
    found = program.model_proto
    opsets = [(opset.domain, opset.version) for opset in found.opset_import]
    if opsets != [("", OPSET)] or found.functions:
        raise GateError(f"this network cannot be written in opset {OPSET} of ONNX alone: it needs {opsets}")
    for operator in found.graph.node:
        # Traces of the stack, with paths of this machine.
        del operator.metadata_props[:]
        operator.doc_string = ""
    return Nodes(list(found.graph.node), list(found.graph.initializer)), features


def _add_head(nodes: Nodes, model: Model, features: str) -> None:
    head = model.head
    values = nodes.apply("Sub", features, nodes.hold(head.mean))
    values = nodes.apply("Div", values, nodes.hold(head.scale))
    for layer in range(0, len(head.weights), 2):
        if layer and head.activation == "relu":
            values = nodes.apply("Relu", values)
        elif layer:
            # The exact GELU: this opset has no operator for it, and onnxruntime fuses this form.
            curved = nodes.apply("Erf", nodes.apply("Mul", values, nodes.floats(0.5**0.5)))
            share = nodes.apply("Add", curved, nodes.floats(1.0))
            values = nodes.apply("Mul", nodes.apply("Mul", values, nodes.floats(0.5)), share)
        weight, bias = head.weights[layer : layer + 2]
        values = nodes.apply("Gemm", values, nodes.hold(weight), nodes.hold(bias))
    nodes.apply("Softmax", values, name=OUTPUT, axis=1)


def _add_outlier_score(nodes: Nodes, scorer: OutlierScorer, features: str) -> None:
    """What ``OutlierScorer.score`` computes."""
    apply, axis = nodes.apply, nodes.ints(1)

    def floats(values: np.ndarray | float) -> str:
        return nodes.hold(np.asarray(values, dtype=np.float32))

    def squares(values: str) -> str:
        return apply("Mul", values, values)

    def weighed(values: str, weights: np.ndarray) -> str:
        return apply("ReduceSum", apply("Mul", values, floats(weights)), axis, keepdims=0)

    values = apply("Div", apply("Sub", features, floats(scorer.mean)), floats(scorer.scale))
    points = apply("MatMul", values, floats(scorer.projection))
    # ||y - m||² less ||y||², which is part of the total too
    to_each = apply(
        "Sub",
        floats(np.square(scorer.means).sum(axis=1)),
        apply("MatMul", points, floats(2 * scorer.means.T)),
    )
    nearest = apply("ReduceMin", to_each, axis, keepdims=0)
    between = apply("Add", nearest, weighed(squares(points), 1.0 - scorer.inverse))
    wide = squares(apply("MatMul", values, floats(scorer.axes)))
    everything = apply("ReduceSum", squares(values), axis, keepdims=0)
    left = apply("Sub", everything, apply("ReduceSum", wide, axis, keepdims=0))
    left = apply("Div", apply("Max", left, floats(0.0)), floats(scorer.rest))
    far = apply("Sqrt", apply("Add", weighed(wide, 1.0 / scorer.variance), left))
    doubt = apply("Sub", floats(1.0), apply("ReduceMax", OUTPUT, axis, keepdims=0))
    tails = []
    for measure, knots in zip((far, between, doubt), scorer.knots, strict=True):
        # A line between neighbouring knots is the sum of ramps, each of which ends at the next knot.
        widths = np.maximum(np.diff(knots), 1e-12)
        slopes = [*(np.diff(DEPTH) / widths), last_slope(knots)]
        above = apply("Sub", apply("Unsqueeze", measure, axis), floats(knots))  # (N, L)
        ramps = apply("Min", apply("Max", above, floats(0.0)), floats(np.append(np.diff(knots), MOST_BEYOND)))
        tails.append(weighed(ramps, np.array(slopes)))
    far, *near = tails
    most = floats(NEAR)
    capped = [apply("Min", one, most) for one in near]
    mean = apply("Mul", apply("Add", *capped), floats(0.5))
    beyond = apply("Max", apply("Sub", far, floats(FAR)), floats(0.0))
    apply("Div", apply("Add", mean, beyond), floats(scorer.cut), name=OUTLIER_OUTPUT)


def without_outlier_score(graph: bytes) -> bytes:
    """The graph with its first output alone: sums of squares are too coarse in other number formats."""
    model = onnx.load_from_string(graph)
    if len(model.graph.output) == 1:
        return graph
    rest, _ = _parts_of(model.graph)
    del model.graph.output[1:]
    for part, kept in ((model.graph.node, rest.operators), (model.graph.initializer, rest.tensors)):
        copies = [type(one).FromString(one.SerializeToString()) for one in kept]
        del part[:]
        part.extend(copies)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def add_outlier_score_of(source: GraphProto, target: GraphProto) -> None:
    """Give ``target``, the same network in another number format, the outlier score of ``source`` in float32.

    Nothing happens where ``source`` has none.
    """
    if len(source.output) == 1:
        return
    _, score = _parts_of(source)
    made = {name for node in score.operators for name in node.output}
    held = {OUTPUT, *(tensor.name for tensor in score.tensors)}
    # All that it takes from the network, under the same name in both graphs.
    (features,) = {name for node in score.operators for name in node.input} - made - held
    wide = f"{OURS}float-features"
    for node in score.operators:
        taken = [wide if name == features else name for name in node.input]
        del node.input[:]
        node.input.extend(taken)
    cast = helper.make_node("Cast", [features], [wide], to=TensorProto.FLOAT)
    target.node.extend([cast, *score.operators])
    target.initializer.extend(score.tensors)
    target.output.append(source.output[1])


def _parts_of(graph: GraphProto) -> tuple[Nodes, Nodes]:
    """What the probabilities need, and copies of what the outlier score needs besides."""
    wanted, network, score = {OUTPUT}, Nodes(), Nodes()
    for node in reversed(graph.node):
        needed = bool(wanted & {*node.output})
        wanted |= {*node.input} if needed else set()
        (network if needed else score).operators.insert(0, node)
    for tensor in graph.initializer:
        (network if tensor.name in wanted else score).tensors.append(tensor)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in score.operators]
    return network, Nodes(copies, score.tensors)


def _metadata(model: Model) -> dict[str, str]:
    """What somebody needs who has the graph alone."""
    scaled = f"(pixel / 255 - {list(model.mean)}) / {list(model.std)} a channel" if model.mean else "none"
    below = model.flip_tta_below
    if model.width:
        takes = {"width": str(model.width), "preprocessing": "in the graph: features are standardised"}
    else:
        takes = {
            "resize": f"done by the runtime, in terms of Pillow: {in_words(model.interpolation)}",
            "preprocessing": f"in the graph: {scaled}",
        }
    return {
        "assay_version": __version__,
        "architecture": model.architecture,
        # The names of folders need not be UTF-8, the texts of a graph must.
        "labels": escape_surrogates(json.dumps(model.labels, ensure_ascii=False)),
        "titles": escape_surrogates(json.dumps(model.titles, ensure_ascii=False)),
        "size": str(model.size),
        "interpolation": model.interpolation,
        **takes,
        "conformal": json.dumps(model.facts.get("conformal", {})),
        **({"class_prior": json.dumps(model.facts["class_prior"])} if "class_prior" in model.facts else {}),
        **({"flip_tta_below": str(below), "flip_tta": FLIP_TTA} if below else {}),
        "tensors_sha256": hashlib.sha256(save(model.tensors())).hexdigest(),
    }
