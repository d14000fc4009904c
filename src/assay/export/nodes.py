"""Nodes: an ONNX graph as it is written, operator by operator."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

OURS = "assay-"
"""Names begin with it, whose dash keeps them from those that torch gives, which are Python's."""


@dataclass
class Nodes:
    """The operators so far, and the numbers that they need."""

    operators: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)

    def apply(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operator; the name of what it gives, ``name`` or one of its own."""
        name = name or f"{OURS}{len(self.operators)}"
        self.operators.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def hold(self, values: np.ndarray, name: str = "") -> str:
        """Keep an array in the graph; its name."""
        name = name or f"{OURS}held-{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def numbers(self, *values: float) -> str:
        """Keep float32 numbers, (len(values),)."""
        return self.hold(np.array(values, dtype=np.float32))

    def places(self, *values: int) -> str:
        """Keep int64 numbers: axes or sides."""
        return self.hold(np.array(values, dtype=np.int64))
