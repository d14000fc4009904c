"""The Open Inference Protocol, version 2: tensors as JSON or, by its binary extension, as bytes after it.

https://github.com/kserve/open-inference-protocol

A body may be a few megabytes of nested lists, which would be gigabytes of Python objects. So ``data`` stays
text until its numbers are counted, and fields that are not asked for are passed over.
"""

from typing import Annotated, Any

import msgspec
import numpy as np

from assay.data.resize import in_words
from assay.predict.graph_check import INPUT, OUTPUT
from assay.predict.runtime import Runtime
from assay.types import Batch, Probs

MAX_IMAGES = 256
"""Of one request."""

JSON_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; tensors follow."""

MAX_OUTPUTS_BYTES = 4096

PLATFORM = "onnx_onnxv1"


class InputParameters(msgspec.Struct, frozen=True):
    """Of the input."""

    binary_data_size: int | None = None
    """Bytes after the JSON, in place of ``data``."""


class TensorIn(msgspec.Struct, frozen=True):
    """The input."""

    name: str
    shape: tuple[int, int, int, int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw(b"[]")
    parameters: InputParameters = InputParameters()


class OutputParameters(msgspec.Struct, frozen=True):
    """Of an output that is asked for."""

    binary_data: bool = False
    classification: int = 0


class OutputWanted(msgspec.Struct, frozen=True):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(msgspec.Struct, frozen=True):
    """Of a request."""

    binary_data_output: bool = False
    """How outputs are sent that are not named."""


class InferRequest(msgspec.Struct, frozen=True):
    """A request, but for the tensor's numbers."""

    inputs: tuple[TensorIn]
    id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    outputs: msgspec.Raw = msgspec.Raw(b"[]")
    parameters: RequestParameters = RequestParameters()


def read_request(body: bytes, json_length: str | None, size: int) -> tuple[InferRequest, Batch, bool]:
    """A request, its images (N, S, S, 3), and whether it wants the answer in bytes.

    Parameters
    ----------
    json_length : what the header ``JSON_LENGTH`` says, if there is one

    Raises
    ------
    ValueError : another name, type or shape, or numbers that are no bytes
    """
    if json_length is not None and not (json_length.isdecimal() and int(json_length) <= len(body)):
        raise ValueError(f"{JSON_LENGTH}: expected at most the {len(body):,} bytes of the body")
    end = len(body) if json_length is None else int(json_length)
    try:
        request = msgspec.json.decode(memoryview(body)[:end], type=InferRequest)
    except RecursionError:
        raise ValueError("expected numbers, got lists in lists without end") from None
    return request, _images_of(request.inputs[0], body[end:], size), _wants_bytes(request)


def _images_of(tensor: TensorIn, rest: bytes, size: int) -> Batch:
    wanted = f"{INPUT} UINT8 [N, {size}, {size}, 3]"
    n, *sides = tensor.shape
    if (tensor.name, tensor.datatype) != (INPUT, "UINT8") or sides != [size, size, 3]:
        came = f"{tensor.name[:100]} {tensor.datatype[:20]} {[n, *sides]}"
        raise ValueError(f"inputs: expected {wanted}, got {came}")
    if not 1 <= n <= MAX_IMAGES:
        raise ValueError(f"inputs: expected from 1 to {MAX_IMAGES} images, got {n}")
    expected = n * size * size * 3
    if (declared := tensor.parameters.binary_data_size) is not None:
        if not declared == len(rest) == expected:
            raise ValueError(
                f"inputs: expected {expected:,} bytes for {wanted}, got {len(rest):,} of {declared:,}"
            )
        return np.frombuffer(rest, np.uint8).reshape(tensor.shape)
    # Flat or nested: the order is the same.
    numbers = bytes(tensor.data).translate(None, b"[]")
    if (found := numbers.count(b",") + 1) != expected:
        raise ValueError(f"inputs: expected {expected:,} whole numbers for {wanted}, got {found:,}")
    try:
        data = bytes(msgspec.json.decode(b"[%b]" % numbers, type=list[int]))
    except ValueError as error:  # msgspec's too
        raise ValueError(f"inputs: expected whole numbers from 0 to 255 for {wanted} ({error})") from None
    return np.frombuffer(data, np.uint8).reshape(tensor.shape)


def _wants_bytes(request: InferRequest) -> bool:
    if len(bytes(request.outputs)) > MAX_OUTPUTS_BYTES:
        raise ValueError(f"outputs: expected at most {OUTPUT}, got more")
    outputs = msgspec.json.decode(request.outputs, type=list[OutputWanted])
    for output in outputs:
        if output.name != OUTPUT or output.parameters.classification:
            raise ValueError(f"outputs: expected {OUTPUT} without classification, got {output.name[:100]}")
    if not outputs:
        return request.parameters.binary_data_output
    return outputs[0].parameters.binary_data


def infer_body(size: int) -> dict[str, Any]:
    """What a request looks like, for openapi.json."""
    numbers = {"type": "integer", "minimum": 0, "maximum": 255}
    tensor = {
        "name": {"const": INPUT},
        "datatype": {"const": "UINT8"},
        "shape": {"const": [1, size, size, 3], "description": f"[N, {size}, {size}, 3], flat in data"},
        "data": {"type": "array", "items": numbers, "minItems": 3 * size**2, "maxItems": 3 * size**2},
    }
    one = {"type": "object", "properties": tensor, "required": [*tensor]}
    inputs = {"type": "array", "items": one, "minItems": 1, "maxItems": 1}
    schema = {"type": "object", "properties": {"inputs": inputs}, "required": ["inputs"]}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def response_of(
    request: InferRequest, name: str, version: str, probs: Probs, *, as_bytes: bool
) -> tuple[bytes, dict[str, str]]:
    """The answer to a request, and its headers."""
    tensor = probs.astype("<f4").tobytes() if as_bytes else b""
    numbers = (
        {"parameters": {"binary_data_size": len(tensor)}}
        if as_bytes
        else {"data": [round(float(p), 6) for p in probs.ravel()]}
    )
    output = {"name": OUTPUT, "datatype": "FP32", "shape": probs.shape, **numbers}
    ids = {"id": request.id} if request.id else {}
    answer = {"model_name": name, "model_version": version, **ids, "outputs": [output]}
    text = msgspec.json.encode(answer)
    if not as_bytes:
        return text, {"content-type": "application/json"}
    return text + tensor, {"content-type": "application/octet-stream", JSON_LENGTH: str(len(text))}


def model_metadata(runtime: Runtime, name: str, version: str) -> dict[str, Any]:
    """Inputs and outputs of the model, and how an image becomes its input."""
    size, k, how = runtime.size, len(runtime.labels), runtime.interpolation
    return {
        "name": name,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, size, size, 3]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, k]}],
        "parameters": {
            "labels": runtime.labels,
            "titles": runtime.titles,
            "pixels": f"RGB from 0 to 255, rows from the top, in terms of Pillow: "
            f"{in_words(how)}; size = {size}",
        },
    }
