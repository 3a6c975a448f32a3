"""Reading the nodes of an exported graph: operators, arguments, sizes, and where in the user's model they come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

LARGE = 1_000_003
"""Stands for the batch: no product of real sizes meets it by accident."""


def operator_name(node: Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``; other namespaces keep theirs: ``torchvision::nms``."""
    if isinstance(node.target, OpOverload):
        return node.target._schema.name.removeprefix("aten::")
    return getattr(node.target, "__name__", str(node.target))


def is_pointwise(node: Node) -> bool:
    """Does PyTorch tag the operator, or the plain form of an in-place one, as pointwise?"""
    if not isinstance(node.target, OpOverload) or node.target.namespace != "aten":
        return False
    packet = getattr(torch.ops.aten, operator_name(node).removesuffix("_"), None)
    overloads = [getattr(packet, name) for name in packet.overloads()] if packet is not None else [node.target]
    return any(torch.Tag.pointwise in overload.tags for overload in [node.target, *overloads])


def argument(node: Node, name: str) -> Any:
    """The value passed for, or the default of, one argument of an ATen operator."""
    position, schema = _position(node, name)
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, schema.default_value)


def has_argument(node: Node, name: str) -> bool:
    return isinstance(node.target, OpOverload) and any(a.name == name for a in node.target._schema.arguments)


def set_argument(node: Node, name: str, value: Any) -> None:
    position, _ = _position(node, name)
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)


def _position(node: Node, name: str) -> tuple[int, Any]:
    assert isinstance(node.target, OpOverload)
    for position, schema in enumerate(node.target._schema.arguments):
        if schema.name == name:
            return position, schema
    raise KeyError(f"{node.target} has no argument {name!r}")


def positional(node: Node, number: int = 0) -> Any:
    """A positional argument, most often the node that the operator works on."""
    return node.args[number]


def tensor_of(node: Node) -> Tensor | None:
    value = node.meta.get("val")
    return value if isinstance(value, Tensor) else None


def sizes(node: Any) -> list[int | None]:
    """Sizes of a node's result, None where symbolic."""
    value = tensor_of(node)
    return [] if value is None else [None if is_symbolic(size) else int(size) for size in value.shape]


def numbers(node: Any) -> list[int]:
    """Sizes with a large number in place of each symbol, so that equal products mean equal dimensions."""
    value = tensor_of(node)
    return [] if value is None else [_evaluate(size, LARGE) for size in value.shape]


def sizes_at_batch_one(node: Any) -> list[int]:
    value = tensor_of(node)
    return [] if value is None else [_evaluate(size, 1) for size in value.shape]


def is_symbolic(size: int | torch.SymInt) -> bool:
    """The exporter may have found a symbol to be a constant after all."""
    return isinstance(size, torch.SymInt) and bool(size.node.expr.free_symbols)


def _evaluate(size: int | torch.SymInt, symbol_value: int) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.xreplace(dict.fromkeys(expression.free_symbols, symbol_value)))


def module_path(node: Node) -> str:
    """Path of the user's module that ran this operator."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).split("@")[0] if stack else ""


def where(node: Node) -> str:
    """Module path and last source line, for messages."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").strip().splitlines()]
    return " | ".join(part for part in (module_path(node), lines[-1] if lines else "") if part)
