"""The ONNX file of a model, and the check that a file is one, before anything runs it.

A graph may name other files, call code that is not onnxruntime's own, loop, or claim tensors larger than
the memory. Ours do none of that, so whatever does is refused, by its bytes alone.

The numbers of fields are those of ``onnx.proto``.
"""

import hashlib
import json
from collections.abc import Mapping
from math import prod

from assay.errors import ModelError
from assay.predict.protobuf import Message

OPSET = 18
"""Version of ONNX's operators: every onnxruntime that we allow runs it, and torch exports to it directly."""

INPUT, OUTPUT = "images", "probabilities"

SHA256 = "sha256"
"""The hash of a lone file, in its metadata."""

_MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14}
"""From the version of the format to the metadata: all but training, functions and configurations."""

_MOST_SIDES = 8

_TYPES = {1: "float32", 2: "uint8"}


def check_graph(graph: bytes, size: int, n_classes: int) -> None:
    """Refuse all but one plain graph from uint8 images (N, size, size, 3) to float32 P(class) (N, K).

    Raises
    ------
    ModelError : no ONNX file; another opset or domain; functions, loops, sparse tensors; a tensor that
        lies in another file, or claims more numbers than it holds; other inputs or outputs
    """
    takes, gives = f"{INPUT} uint8 (N, {size}, {size}, 3)", f"{OUTPUT} float32 (N, {n_classes})"
    try:
        _check_model(Message(memoryview(graph)), takes, gives)
    except ValueError as error:
        raise ModelError(f"model.onnx: expected an ONNX file, got something else ({error})") from error


def read_metadata(graph: bytes) -> dict[str, str]:
    """What an ONNX file says of itself, key by key.

    Raises
    ------
    ModelError : no ONNX file
    """
    try:
        return {entry.text(1): entry.text(2) for entry in Message(memoryview(graph)).parts(14)}
    except ValueError as error:
        raise ModelError(f"expected an ONNX file, got something else ({error})") from error


def digest_of(graph: bytes, told: Mapping[str, str]) -> str:
    """sha256 of an ONNX file's operators and numbers, and of its metadata but for this hash itself.

    Raises
    ------
    ModelError : no ONNX file
    """
    try:
        digest = hashlib.sha256(Message(memoryview(graph)).raw(7))
    except ValueError as error:
        raise ModelError(f"expected an ONNX file, got something else ({error})") from error
    words = sorted((name, text) for name, text in told.items() if name != SHA256)
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()


def _check_model(model: Message, takes: str, gives: str) -> None:
    opsets = [(part.text(1) or "ONNX", *part.numbers(2)) for part in model.parts(8)]
    _expect("operators", f"ONNX {OPSET}", "; ".join(" ".join(map(str, opset)) for opset in opsets))
    _expect("number of graphs", 1, len(model.parts(7)))
    _refuse("functions, training or fields of its own", bool(model.fields - _MODEL_FIELDS))
    (graph,) = model.parts(7)
    _refuse("sparse tensors", 15 in graph)
    _expect("input", takes, "; ".join(map(_described, graph.parts(11))))
    _expect("output", gives, "; ".join(map(_described, graph.parts(12))))
    for tensor in graph.parts(5):
        _check_tensor(tensor)
    for node in graph.parts(1):
        _check_node(node)


def _described(end: Message) -> str:
    """Name, type and sides of an input or output."""
    kinds, sides = [], []
    for kind in end.parts(2):
        for tensor in kind.parts(1):
            kinds += [_TYPES.get(number, f"type {number}") for number in tensor.numbers(1)]
            for shape in tensor.parts(2):
                sides += ["/".join(map(str, side.numbers(1))) or "N" for side in shape.parts(1)]
    return f"{end.text(1)} {' '.join(kinds)} ({', '.join(sides)})"


def _check_node(node: Message) -> None:
    operator = node.text(4)
    _expect(f"domain of {operator}", "", node.text(7))
    for attribute in node.parts(5):
        _refuse(
            f"graphs or sparse tensors in {operator}", any(field in attribute for field in (6, 11, 22, 23))
        )
        _refuse(f"tensor in pieces in {operator}", len(attribute.parts(5)) > 1)
        for tensor in (*attribute.parts(5), *attribute.parts(10)):
            _check_tensor(tensor)


def _check_tensor(tensor: Message) -> None:
    name, sides = f"tensor {tensor.text(8)!r}", tensor.numbers(1)
    _refuse(f"{name} of {len(sides)} sides", len(sides) > _MOST_SIDES)
    _refuse(f"{name} in another file", 13 in tensor or any(tensor.numbers(14)))
    # Of numbers that are packed as densely as any, two lie in a byte.
    held = 2 * sum(tensor.size(field) for field in (4, 5, 6, 7, 9, 10, 11))
    _refuse(f"{name} larger than its bytes", min(sides, default=0) < 0 or prod(sides) > held)


def _expect(what: str, wanted: object, found: object) -> None:
    if found != wanted:
        raise ModelError(f"model.onnx: {what}: expected {wanted or 'none'}, got {found or 'none'}; {_ADVICE}")


def _refuse(what: str, there: bool) -> None:
    if there:
        raise ModelError(f"model.onnx: expected no {what}, got some; {_ADVICE}")


_ADVICE = "this is not the file that assay wrote: copy the whole model folder again"
