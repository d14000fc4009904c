"""The Open Inference Protocol, version 2: tensors as JSON, in and out.

https://github.com/kserve/open-inference-protocol
"""

from itertools import chain
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from assay.predict.graph_check import INPUT, OUTPUT
from assay.predict.runtime import Runtime
from assay.types import Batch, Probs

MAX_IMAGES = 256
"""Of one request."""

PLATFORM = "onnx_onnxv1"


class TensorIn(BaseModel):
    """One input."""

    name: str = Field(max_length=200)
    shape: list[int] = Field(min_length=1, max_length=8)
    datatype: str = Field(max_length=20)
    data: list[Any]
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferRequest(BaseModel):
    """A request; the outputs are always the probabilities, whichever are named."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(default="", max_length=200)
    inputs: list[TensorIn] = Field(min_length=1, max_length=1)
    outputs: list[dict[str, Any]] = Field(default_factory=list, max_length=8)
    parameters: dict[str, Any] = Field(default_factory=dict)


def images_of(request: InferRequest, size: int) -> Batch:
    """The images (N, S, S, 3) of a request.

    Raises
    ------
    ValueError : another name, type or shape, or numbers that are no bytes
    """
    (tensor,) = request.inputs
    wanted = f"{INPUT} UINT8 [N, {size}, {size}, 3]"
    if (tensor.name, tensor.datatype) != (INPUT, "UINT8") or tensor.shape[1:] != [size, size, 3]:
        raise ValueError(f"inputs: expected {wanted}, got {tensor.name} {tensor.datatype} {tensor.shape}")
    n = tensor.shape[0]
    if not 1 <= n <= MAX_IMAGES:
        raise ValueError(f"inputs: expected from 1 to {MAX_IMAGES} images, got {n}")
    # By Python: NumPy would make an array of what the longest text needs.
    numbers = tensor.data
    while numbers and {*map(type, numbers)} == {list}:
        numbers = list(chain.from_iterable(numbers))
    if len(numbers) != n * size * size * 3:
        raise ValueError(
            f"inputs: expected {n * size * size * 3:,} whole numbers for {wanted}, got {len(numbers):,}"
        )
    others = [kind.__name__ for kind in {*map(type, numbers)} if kind is not int]
    if others:
        raise ValueError(f"inputs: expected whole numbers for {wanted}, got {others[0]} among them")
    if min(numbers) < 0 or max(numbers) > 255:
        raise ValueError(f"inputs: expected numbers from 0 to 255, got {min(numbers)} to {max(numbers)}")
    return np.array(numbers, dtype=np.uint8).reshape(n, size, size, 3)


def response_of(request: InferRequest, name: str, version: str, probs: Probs) -> dict[str, Any]:
    """The answer to a request."""
    data = [round(float(p), 6) for p in probs.ravel()]
    output = {"name": OUTPUT, "datatype": "FP32", "shape": list(probs.shape), "data": data}
    ids = {"id": request.id} if request.id else {}
    return {"model_name": name, "model_version": version, **ids, "outputs": [output]}


def model_metadata(runtime: Runtime, name: str, version: str) -> dict[str, Any]:
    """Inputs and outputs of the model."""
    size, k = runtime.size, len(runtime.labels)
    return {
        "name": name,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, size, size, 3]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, k]}],
        "parameters": {"labels": list(runtime.labels), "titles": list(runtime.titles)},
    }
