"""Dropped branches in an ONNX graph of the dense model: their constants in place of the layers that end them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from autoprune.export.sizes import NotUnderstoodError, fetch, graph_of
from autoprune.graph.net import constant

if TYPE_CHECKING:
    import onnx_ir

_SHAPED = ("Reshape", "Expand", "Shape")
"""Operators whose result depends on the size of the batch."""


def replace_dropped(model: onnx_ir.Model, module: nn.Module) -> None:
    """Put the constants of ``module`` where its layers without inputs were, and remove what only fed them.

    Raises NotUnderstoodError where such a layer is not one ONNX node, or something behind it needs the full shape.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    constants = [node for node in graph_of(module).nodes if node.target is constant]
    for node in constants:
        value, shape, weight = node.args
        _replace(model.graph, str(weight), fetch(module, str(value.target)).detach().cpu().reshape(shape))
    if constants:
        RemoveUnusedNodesPass()(model)


def _replace(graph: onnx_ir.Graph, weight: str, value: torch.Tensor) -> None:
    import onnx_ir

    layer = _layer(graph, weight)
    if layer.op_type == "Gemm" and value.dim() != 2:
        raise NotUnderstoodError(f"{layer.name} takes its input in another shape than the layer of {weight}.")
    biased = len(layer.inputs) > 2 and layer.inputs[2] is not None
    array = (value if biased else torch.zeros_like(value)).numpy()  # else the bias, if any, is added behind the layer
    name = f"{weight}:dropped"
    tensor = onnx_ir.tensor(array, name=name)
    silent = onnx_ir.Value(
        name=name, const_value=tensor, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(silent)
    layer.outputs[0].replace_all_uses_with(silent)
    _refuse_full_shapes(silent)


def _layer(graph: onnx_ir.Graph, weight: str) -> onnx_ir.Node:
    """The node that multiplies with this weight, or with its transpose."""
    value = graph.initializers.get(weight)
    users = list(value.uses()) if value is not None else []
    if len(users) == 1 and users[0].node.op_type == "Transpose":
        users = list(users[0].node.outputs[0].uses())
    if len(users) != 1 or users[0].node.op_type not in ("Conv", "Gemm", "MatMul") or users[0].idx != 1:
        raise NotUnderstoodError(f"The layer of {weight} is not one node.")
    return users[0].node


def _refuse_full_shapes(silent: onnx_ir.Value) -> None:
    """Look at everything that depends on this constant alone."""
    fixed, found = {silent}, [use.node for use in silent.uses()]
    while found:
        node = found.pop()
        if node.op_type in _SHAPED:
            raise NotUnderstoodError(f"{node.name} needs the full shape of a constant.")
        if all(value is None or value in fixed or value.is_initializer() for value in node.inputs):
            fixed.update(node.outputs)
            found += [use.node for value in node.outputs for use in value.uses()]
