"""Linear layers and products of matrices."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.nodes import argument, positional, sizes
from autoprune.graph.rules._base import rule
from autoprune.graph.rules.elementwise import broadcast


@rule("linear")
def linear(coupling: Coupling, node: Node) -> Axes:
    """x (..., C) with weight (O, C)."""
    source, weight, bias = argument(node, "input"), argument(node, "weight"), argument(node, "bias")
    out, contracted = coupling.axes(weight)
    lead = coupling.axes(source)[:-1]
    inner = coupling.unify(coupling.axes(source)[-1], contracted)
    coupling.contracts(inner, source, weight)
    for axis in coupling.axes(bias):
        out = coupling.unify(out, axis)
    coupling.kind(out, "neuron")
    if all(axis is None for axis in lead) or (bias is None and source in coupling.clean):
        coupling.clean.add(node)
    result = [*lead, out]
    _count(coupling, node, (weight, 1))
    return result


@rule("matmul", "bmm", "mm")
def matmul(coupling: Coupling, node: Node) -> Axes:
    """(..., M, K) times (..., K, N), batch dimensions broadcast."""
    left, right = positional(node), positional(node, 1)
    assert isinstance(left, Node)
    assert isinstance(right, Node)
    a, b = coupling.axes(left), coupling.axes(right)
    row = b[-2] if len(b) > 1 else b[-1]
    inner = coupling.unify(a[-1], row)
    coupling.contracts(inner, left, right)
    tail = [*([a[-2]] if len(a) > 1 else []), *([b[-1]] if len(b) > 1 else [])]
    result = [*_batch(coupling, node, [left, right], len(tail)), *tail]
    coupling.carries_zero(node, left, right)
    _count(coupling, node, (left, -1))
    return result


def _batch(coupling: Coupling, node: Node, operands: list[Node], matrix: int) -> Axes:
    """Batch dimensions of a product: those before the last ``matrix`` of the result, aligned from the right."""
    rank = len(sizes(node)) - matrix
    aligned = [operand for operand in operands if len(sizes(operand)) > 2]
    return [_meet(coupling, node, aligned, dim, matrix) for dim in range(rank)]


def _meet(coupling: Coupling, node: Node, operands: list[Node], dim: int, matrix: int) -> Any:
    rank = len(sizes(node)) - matrix
    found = []
    for operand in operands:
        position = dim - rank + len(sizes(operand)) - 2
        if position >= 0 and (sizes(operand)[position] != 1 or sizes(node)[dim] == 1):
            found.append(coupling.axes(operand)[position])
    result = found[0] if found else None
    for axis in found[1:]:
        result = coupling.unify(result, axis)
    return result


@rule("addmm", "baddbmm")
def addmm(coupling: Coupling, node: Node) -> Axes:
    bias, left, right = (positional(node, number) for number in range(3))
    a, b = coupling.axes(left), coupling.axes(right)
    inner = coupling.unify(a[-1], b[-2])
    coupling.contracts(inner, left, right)
    lead = [coupling.unify(x, y) for x, y in zip(a[:-2], b[:-2], strict=True)]
    result = [*lead, a[-2], b[-1]]
    for dim in range(len(result)):
        met = broadcast(coupling, [bias], node, dim)
        position = dim - len(result) + len(sizes(bias))
        if position >= 0 and sizes(bias)[position] != 1:
            result[dim] = coupling.unify(result[dim], met)
    if a[-2] is None:
        coupling.clean.add(node)
    _count(coupling, node, (right, -2))
    return result


@rule("einsum")
def einsum(coupling: Coupling, node: Node) -> Axes:
    """Letters are dimensions: equal letters are coupled, letters missing on the right are summed over."""
    equation, operands = str(positional(node)).replace(" ", ""), positional(node, 1)
    assert isinstance(operands, list | tuple)
    if "->" not in equation or "." in equation:
        coupling.freeze(*(axis for operand in operands for axis in coupling.axes(operand)))
        coupling.block(node, "an einsum with an ellipsis or without an output is not analysed")
        return [None] * len(sizes(node))
    terms, out = equation.split("->")
    letters: dict[str, Any] = {}
    found: dict[str, tuple[Node, int]] = {}
    for term, operand in zip(terms.split(","), operands, strict=True):
        for dim, (letter, axis) in enumerate(zip(term, coupling.axes(operand), strict=True)):
            letters[letter] = coupling.unify(letters[letter], axis) if letter in letters else axis
            found[letter] = operand, dim
    for letter in letters.keys() - set(out):
        coupling.contracts(letters[letter], *operands)
    coupling.carries_zero(node, *operands)
    coupling.cost(*found.values())
    return [letters[letter] for letter in out]


def _count(coupling: Coupling, node: Node, contracted: tuple[Node, int]) -> None:
    coupling.cost(*((node, dim) for dim in range(len(sizes(node)))), contracted)
