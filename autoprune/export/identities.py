"""Operators that change nothing, which a dropped branch leaves behind: zeros that are added, a second ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir


def remove_identities(model: onnx_ir.Model) -> None:
    """Take out additions of zeros, where they do not change the shape, and a ReLU of a ReLU."""
    sums = [node for node in model.graph if node.op_type == "Add" and any(map(_is_zeros, node.inputs))]
    if not sums:
        return
    _infer_shapes(model)
    for node in sums:
        _replace(node, _summand(node))
    for node in list(model.graph):
        made_by = node.inputs[0].producer() if node.op_type == "Relu" and node.inputs[0] is not None else None
        if made_by is not None and made_by.op_type == "Relu":
            _replace(node, node.inputs[0])


def _infer_shapes(model: onnx_ir.Model) -> None:
    """Afresh: a template's are those of the dense model."""
    from onnx_ir.passes.common import ShapeInferencePass

    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    ShapeInferencePass()(model)


def _is_zeros(value: onnx_ir.Value | None) -> bool:
    known = value.const_value if value is not None and value.is_initializer() else None
    return known is not None and not np.any(known.numpy())


def _summand(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """What the sum is equal to; None where its shape is another, or not known."""
    for zeros, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        if _is_zeros(zeros) and zeros is not None and other is not None and other.shape is not None:
            small, large = zeros.const_value.shape, list(other.shape)  # type: ignore[union-attr]
            behind = large[len(large) - len(small) :] if len(small) <= len(large) else []
            if len(behind) == len(small) and all(a in (1, b) for a, b in zip(small, behind, strict=True)):
                return other
    return None


def _replace(node: onnx_ir.Node, value: onnx_ir.Value | None) -> None:
    if value is not None and not node.outputs[0].is_graph_output():
        node.outputs[0].replace_all_uses_with(value)
