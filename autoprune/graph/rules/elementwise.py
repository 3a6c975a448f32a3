"""Operators that work index by index, with broadcasting."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, positional, sizes, tensor_of
from autoprune.graph.rules._base import rewrite, rule


@rule(
    *("clone", "contiguous", "detach", "to", "_to_copy", "type_as", "alias", "lift_fresh_copy", "copy_", "masked_fill"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli", "fill_", "zero_"),
    *("hardswish", "hardsigmoid", "hardtanh", "relu6", "leaky_relu", "mish", "elu", "celu", "selu", "softplus"),
    *("log_sigmoid", "hardshrink", "softshrink", "threshold", "tanhshrink", "softsign", "rsub"),
)
def pointwise(coupling: Coupling, node: Node) -> Axes:
    """The default for every operator that PyTorch tags as pointwise."""
    operands = [source for source in node.all_input_nodes if tensor_of(source) is not None]
    result = [broadcast(coupling, operands, node, dim) for dim in range(len(sizes(node)))]
    if _keeps_zero(coupling, node, operands):
        coupling.clean.add(node)
    return result


def broadcast(coupling: Coupling, operands: list[Node], node: Node, dim: int) -> Axis:
    """Couple the operands' dimensions that meet in dimension ``dim`` of the result; a size of 1 binds nothing."""
    rank = len(sizes(node))
    found: list[Axis] = []
    for operand in operands:
        position = dim - rank + len(sizes(operand))
        if position >= 0 and (sizes(operand)[position] != 1 or sizes(node)[dim] == 1):
            found.append(coupling.axes(operand)[position])
    if not found:
        return None
    result = found[0]
    for axis in found[1:]:
        result = coupling.unify(result, axis)
    return result


def _keeps_zero(coupling: Coupling, node: Node, operands: list[Node]) -> bool:
    """Is the result zero where the clean operands are? Tried on one element rather than listed operator by operator."""
    if not any(operand in coupling.clean for operand in operands):
        return False

    def probe(value: Any) -> Any:
        tensor = tensor_of(value) if isinstance(value, Node) else None
        if tensor is None:
            return value
        return torch.full((1,), 0 if value in coupling.clean else 0.7).to(tensor.dtype)

    args = torch.fx.node.map_arg(node.args, probe)
    kwargs = torch.fx.node.map_arg(node.kwargs, probe)
    try:
        return callable(node.target) and bool((node.target(*args, **kwargs) == 0).all())
    except Exception:
        return False


@rule("dropout", "feature_dropout", "alpha_dropout")
def dropout(coupling: Coupling, node: Node) -> Axes:
    coupling.carries_zero(node, positional(node))
    return list(coupling.axes(positional(node)))


@rewrite("dropout", "feature_dropout", "alpha_dropout")
def switch_dropout(edit: Edit, old: Node, new: Node) -> None:
    if old not in edit.narrow:
        new.update_arg(2, edit.training_flag(old))


@rule("prelu")
def prelu(coupling: Coupling, node: Node) -> Axes:
    axes = list(coupling.axes(positional(node)))
    (slope,) = coupling.axes(positional(node, 1))
    if slope is not None:
        axes[1] = coupling.unify(axes[1], slope)
    coupling.carries_zero(node, positional(node))
    return axes


@rule("glu")
def glu(coupling: Coupling, node: Node) -> Axes:
    """First half times the sigmoid of the second."""
    source, dim = argument(node, "self"), argument(node, "dim")
    axes = list(coupling.axes(source))
    axis = axes[dim]
    if axis is not None:
        half = len(axis) // 2
        axes[dim] = coupling.unify(axis[:half], axis[half:])
    coupling.carries_zero(node, source)
    return axes
