"""Operators that work index by index, with broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.rules._base import Axes, argument, positional, rewrite, rule, sizes, tensor_of

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut


@rule(
    *("clone", "contiguous", "detach", "to", "_to_copy", "type_as", "alias", "lift_fresh_copy", "copy_", "masked_fill"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli", "fill_", "zero_"),
    *("hardswish", "hardsigmoid", "hardtanh", "relu6", "leaky_relu", "mish", "elu", "celu", "selu", "softplus"),
    *("log_sigmoid", "hardshrink", "softshrink", "threshold", "tanhshrink", "softsign", "rsub"),
)
def pointwise(analysis: Analysis, node: Node) -> Axes:
    """The default for every operator that PyTorch tags as pointwise."""
    operands = [source for source in node.all_input_nodes if tensor_of(source) is not None]
    result = [broadcast(analysis, operands, node, dim) for dim in range(len(sizes(node)))]
    if _keeps_zero(analysis, node, operands):
        analysis.clean.add(node)
    return result


def broadcast(analysis: Analysis, operands: list[Node], node: Node, dim: int) -> Axis:
    """Couple the operands' dimensions that meet in dimension ``dim`` of the result; a size of 1 binds nothing."""
    rank = len(sizes(node))
    found: list[Axis] = []
    for operand in operands:
        position = dim - rank + len(sizes(operand))
        if position >= 0 and (sizes(operand)[position] != 1 or sizes(node)[dim] == 1):
            found.append(analysis.axes(operand)[position])
    if not found:
        return None
    result = found[0]
    for axis in found[1:]:
        result = analysis.unify(result, axis)
    return result


def _keeps_zero(analysis: Analysis, node: Node, operands: list[Node]) -> bool:
    """Is the result zero where the clean operands are? Tried on one element rather than listed operator by operator."""
    if not any(operand in analysis.clean for operand in operands):
        return False

    def probe(value: Any) -> Any:
        tensor = tensor_of(value) if isinstance(value, Node) else None
        if tensor is None:
            return value
        return torch.full((1,), 0 if value in analysis.clean else 0.7).to(tensor.dtype)

    args = torch.fx.node.map_arg(node.args, probe)
    kwargs = torch.fx.node.map_arg(node.kwargs, probe)
    try:
        return callable(node.target) and bool((node.target(*args, **kwargs) == 0).all())
    except Exception:
        return False


@rule("dropout", "feature_dropout", "alpha_dropout")
def dropout(analysis: Analysis, node: Node) -> Axes:
    if positional(node) in analysis.clean:
        analysis.clean.add(node)
    return list(analysis.axes(positional(node)))


@rewrite("dropout", "feature_dropout", "alpha_dropout")
def switch_dropout(cut: Cut, old: Node, new: Node) -> None:
    new.update_arg(2, cut.training_flag(old))


@rule("prelu")
def prelu(analysis: Analysis, node: Node) -> Axes:
    axes = list(analysis.axes(positional(node)))
    (slope,) = analysis.axes(positional(node, 1))
    if slope is not None:
        axes[1] = analysis.unify(axes[1], slope)
    if positional(node) in analysis.clean:
        analysis.clean.add(node)
    return axes


@rule("glu")
def glu(analysis: Analysis, node: Node) -> Axes:
    """First half times the sigmoid of the second."""
    source, dim = argument(node, "self"), argument(node, "dim")
    axes = list(analysis.axes(source))
    axis = axes[dim]
    if axis is not None:
        half = len(axis) // 2
        axes[dim] = analysis.unify(axis[:half], axis[half:])
    if source in analysis.clean:
        analysis.clean.add(node)
    return axes
