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

MOST_IMAGES = 256
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
    """What is asked; outputs are always the probabilities, whichever are named."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(default="", max_length=200)
    inputs: list[TensorIn] = Field(min_length=1, max_length=1)
    outputs: list[dict[str, Any]] = Field(default_factory=list, max_length=8)
    parameters: dict[str, Any] = Field(default_factory=dict)


def images_of(asked: InferRequest, size: int) -> Batch:
    """The images (N, S, S, 3) of a request.

    Raises
    ------
    ValueError : another name, type or shape, or numbers that are no bytes
    """
    (tensor,) = asked.inputs
    wanted = f"{INPUT} UINT8 [N, {size}, {size}, 3]"
    if (tensor.name, tensor.datatype) != (INPUT, "UINT8") or tensor.shape[1:] != [size, size, 3]:
        raise ValueError(f"inputs: expected {wanted}, got {tensor.name} {tensor.datatype} {tensor.shape}")
    n = tensor.shape[0]
    if not 1 <= n <= MOST_IMAGES:
        raise ValueError(f"inputs: expected from 1 to {MOST_IMAGES} images, got {n}")
    numbers = _flat(tensor.data)
    if len(numbers) != n * size * size * 3:
        raise ValueError(
            f"inputs: expected {n * size * size * 3:,} whole numbers for {wanted}, got {len(numbers):,}"
        )
    strange = [kind.__name__ for kind in {*map(type, numbers)} if kind is not int]
    if strange:
        raise ValueError(f"inputs: expected whole numbers for {wanted}, got {strange[0]} among them")
    if min(numbers) < 0 or max(numbers) > 255:
        raise ValueError(f"inputs: expected numbers from 0 to 255, got {min(numbers)} to {max(numbers)}")
    return np.array(numbers, dtype=np.uint8).reshape(n, size, size, 3)


def _flat(data: list[Any]) -> list[Any]:
    """The values of lists in lists; by Python, since NumPy makes an array of what the largest text needs."""
    while data and {*map(type, data)} == {list}:
        data = list(chain.from_iterable(data))
    return data


def answer(asked: InferRequest, name: str, version: str, probs: Probs) -> dict[str, Any]:
    """The response."""
    data = [round(float(p), 6) for p in probs.ravel()]
    output = {"name": OUTPUT, "datatype": "FP32", "shape": list(probs.shape), "data": data}
    told = {"id": asked.id} if asked.id else {}
    return {"model_name": name, "model_version": version, **told, "outputs": [output]}


def model_metadata(runtime: Runtime, name: str, version: str) -> dict[str, Any]:
    """What the model takes and gives."""
    size, k = runtime.size, len(runtime.labels)
    return {
        "name": name,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, size, size, 3]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, k]}],
        "parameters": {"labels": list(runtime.labels), "titles": list(runtime.titles)},
    }
