"""What the operators of an ONNX file compute and move."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.hardware import Precision

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto

FREE = frozenset(
    {
        *("Constant", "Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze", "Shape", "Dropout", "Cast"),
        *("QuantizeLinear", "DequantizeLinear"),
    }
)
FUSED = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Abs", "Exp", "Erf", "Relu", "LeakyRelu", "PRelu", "Clip"),
        *("Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Mish", "Softplus", "Tanh"),
        "BatchNormalization",
    }
)
"""Computed where the first input is made, as runtimes do it; their other inputs are read all the same."""


@dataclass(frozen=True)
class Operation:
    """One operator that a runtime starts: multiply-accumulates, and elements that it reads or writes in memory."""

    name: str
    op_type: str
    precision: Precision
    macs: float
    elements: float


def operations(model: Path, *, batch: int, multiple: int = 1) -> list[Operation]:
    """The operators of ``model`` for batches of ``batch``, channels filled up to a multiple of ``multiple``."""
    import onnx

    loaded = onnx.load_model(model)
    graph = loaded.graph
    for end in graph.input:
        end.type.tensor_type.shape.dim[0].dim_value = batch
    for end in graph.output:
        end.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    shaped = onnx.shape_inference.infer_shapes(loaded, data_prop=True).graph
    return _Graph(shaped, multiple).operations()


class _Graph:
    """Shapes, types and makers of the tensors of a graph."""

    def __init__(self, graph: GraphProto, multiple: int) -> None:
        import onnx

        self._multiple = multiple
        self._nodes = graph.node
        self._makers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name for tensor in graph.initializer}
        infos = (*graph.input, *graph.value_info, *graph.output)
        self._shapes: dict[str, tuple[int, ...]] = {info.name: _sizes(info) for info in infos}
        self._shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        half = onnx.TensorProto.FLOAT16
        self._half = {info.name for info in infos if info.type.tensor_type.elem_type == half}

    def operations(self) -> list[Operation]:
        found: list[Operation] = []
        for node in self._nodes:
            if node.op_type in FUSED and found:
                more = sum(self._elements(name) for name in node.input[1:] if not self._is_constant(name))
                found[-1] = replace(found[-1], elements=found[-1].elements + more)
            elif node.op_type not in FREE:
                elements = sum(map(self._elements, (*node.input, *node.output)))
                found.append(Operation(node.name, node.op_type, self._precision(node), self._macs(node), elements))
        return found

    def _macs(self, node: NodeProto) -> float:
        if node.op_type == "Conv":
            weight = self._shape(node.input[1])
            macs = float(math.prod(self._shape(node.output[0])) * math.prod(weight[1:]))
            grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
            return macs if grouped else macs * self._filled(weight[0]) * self._filled(weight[1])
        if node.op_type == "ConvTranspose":
            return float(math.prod(self._shape(node.input[0])) * math.prod(self._shape(node.input[1])[1:]))
        if node.op_type in ("MatMul", "Gemm"):
            made, inner = self._shape(node.output[0]), self._inner(node)
            return float(math.prod(made) * inner) * self._filled(made[-1] if made else 1) * self._filled(inner)
        return 0.0

    def _inner(self, node: NodeProto) -> int:
        """The dimension that a matrix product sums over."""
        shape = self._shape(node.input[0])
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return (shape[0] if transposed else shape[-1]) if shape else 0

    def _filled(self, channels: int) -> float:
        """How much of the work is added when ``channels`` are filled up."""
        return -(-channels // self._multiple) * self._multiple / channels if channels else 1.0

    def _precision(self, node: NodeProto) -> Precision:
        maker = self._makers.get(node.input[0]) if node.input else None
        if maker is not None and maker.op_type == "DequantizeLinear":
            return "int8"
        return "fp16" if self._half.intersection((*node.input, *node.output)) else "fp32"

    def _is_constant(self, name: str) -> bool:
        maker = self._makers.get(name)
        dequantised = maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in self._constants
        return name in self._constants or dequantised or (maker is not None and maker.op_type == "Constant")

    def _elements(self, name: str) -> float:
        return float(math.prod(self._shape(name))) if name else 0.0

    def _shape(self, name: str) -> tuple[int, ...]:
        """Sizes; what could not be inferred counts as 0."""
        return self._shapes.get(name, (0,))


def _sizes(info: ValueInfoProto) -> tuple[int, ...]:
    return tuple(size.dim_value for size in info.type.tensor_type.shape.dim)
