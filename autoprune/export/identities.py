"""Operators that change nothing, which a dropped branch leaves behind: zeros that are added, a second ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir

KEEPS_CHANNELS = ("Relu", "Add", "BatchNormalization", "MaxPool", "AveragePool", "Clip")


def remove_identities(model: onnx_ir.Model) -> None:
    """Take out additions of zeros, where they do not change the shape, and a ReLU of a ReLU."""
    for node in list(model.graph):
        if node.op_type == "Add":
            _replace(node, _other_than_zeros(node))
        elif node.op_type == "Relu" and (made_by := _producer(node.inputs[0])) and made_by.op_type == "Relu":
            _replace(node, node.inputs[0])


def _replace(node: onnx_ir.Node, value: onnx_ir.Value | None) -> None:
    if value is not None and not node.outputs[0].is_graph_output():
        node.outputs[0].replace_all_uses_with(value)


def _other_than_zeros(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """The summand that the sum is equal to; None where there is none, or its shape is not known to be the sum's."""
    for zeros, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        if zeros is None or other is None or other.is_initializer() or zeros.const_value is None:
            continue
        if zeros.is_initializer() and not np.any(array := zeros.const_value.numpy()):
            rank = array.ndim
            if rank >= 3 and array.size == array.shape[1] == _channels(other):
                return other
    return None


def _channels(value: onnx_ir.Value) -> int | None:
    """Size of dimension 1 of what a convolution made, through operators that keep it; None where that is not known."""
    node = _producer(value)
    while node is not None and node.op_type in KEEPS_CHANNELS:
        made = [_producer(one) for one in node.inputs if one is not None]
        node = next((one for one in made if one is not None), None)
    if node is None or node.op_type != "Conv" or (weight := node.inputs[1]) is None or weight.const_value is None:
        return None
    return len(weight.const_value.numpy())


def _producer(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    return None if value is None else value.producer()
