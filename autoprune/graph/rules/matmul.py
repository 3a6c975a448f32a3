"""Linear layers and products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from autoprune.graph.rules._base import Axes, argument, positional, rule, sizes
from autoprune.graph.rules.elementwise import broadcast

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis


@rule("linear")
def linear(analysis: Analysis, node: Node) -> Axes:
    """x (..., C) with weight (O, C)."""
    source, weight, bias = argument(node, "input"), argument(node, "weight"), argument(node, "bias")
    out, contracted = analysis.axes(weight)
    lead = analysis.axes(source)[:-1]
    inner = analysis.unify(analysis.axes(source)[-1], contracted)
    analysis.contracts(inner, source, weight)
    for axis in analysis.axes(bias):
        out = analysis.unify(out, axis)
    analysis.kind(out, "neuron")
    if all(axis is None for axis in lead) or (bias is None and source in analysis.clean):
        analysis.clean.add(node)
    result = [*lead, out]
    _count(analysis, node, (weight, 1))
    return result


@rule("matmul", "bmm", "mm")
def matmul(analysis: Analysis, node: Node) -> Axes:
    """(..., M, K) times (..., K, N), batch dimensions broadcast."""
    left, right = positional(node), positional(node, 1)
    assert isinstance(left, Node)
    assert isinstance(right, Node)
    a, b = analysis.axes(left), analysis.axes(right)
    row = b[-2] if len(b) > 1 else b[-1]
    inner = analysis.unify(a[-1], row)
    analysis.contracts(inner, left, right)
    tail = [*([a[-2]] if len(a) > 1 else []), *([b[-1]] if len(b) > 1 else [])]
    result = [*_batch(analysis, node, [left, right], len(tail)), *tail]
    if left in analysis.clean and right in analysis.clean:
        analysis.clean.add(node)
    _count(analysis, node, (left, -1))
    return result


def _batch(analysis: Analysis, node: Node, operands: list[Node], matrix: int) -> Axes:
    """Batch dimensions of a product: those before the last ``matrix`` of the result, aligned from the right."""
    rank = len(sizes(node)) - matrix
    aligned = [operand for operand in operands if len(sizes(operand)) > 2]
    return [_meet(analysis, node, aligned, dim, matrix) for dim in range(rank)]


def _meet(analysis: Analysis, node: Node, operands: list[Node], dim: int, matrix: int) -> Any:
    rank = len(sizes(node)) - matrix
    found = []
    for operand in operands:
        position = dim - rank + len(sizes(operand)) - 2
        if position >= 0 and (sizes(operand)[position] != 1 or sizes(node)[dim] == 1):
            found.append(analysis.axes(operand)[position])
    result = found[0] if found else None
    for axis in found[1:]:
        result = analysis.unify(result, axis)
    return result


@rule("addmm", "baddbmm")
def addmm(analysis: Analysis, node: Node) -> Axes:
    bias, left, right = (positional(node, number) for number in range(3))
    a, b = analysis.axes(left), analysis.axes(right)
    inner = analysis.unify(a[-1], b[-2])
    analysis.contracts(inner, left, right)
    lead = [analysis.unify(x, y) for x, y in zip(a[:-2], b[:-2], strict=True)]
    result = [*lead, a[-2], b[-1]]
    for dim in range(len(result)):
        met = broadcast(analysis, [bias], node, dim)
        position = dim - len(result) + len(sizes(bias))
        if position >= 0 and sizes(bias)[position] != 1:
            result[dim] = analysis.unify(result[dim], met)
    if a[-2] is None:
        analysis.clean.add(node)
    _count(analysis, node, (right, -2))
    return result


@rule("einsum")
def einsum(analysis: Analysis, node: Node) -> Axes:
    """Letters are dimensions: equal letters are coupled, letters missing on the right are summed over."""
    equation, operands = str(positional(node)).replace(" ", ""), positional(node, 1)
    assert isinstance(operands, list | tuple)
    if "->" not in equation or "." in equation:
        analysis.freeze(*(axis for operand in operands for axis in analysis.axes(operand)))
        analysis.block(node, "an einsum with an ellipsis or without an output is not analysed")
        return [None] * len(sizes(node))
    terms, out = equation.split("->")
    letters: dict[str, Any] = {}
    found: dict[str, tuple[Node, int]] = {}
    for term, operand in zip(terms.split(","), operands, strict=True):
        for dim, (letter, axis) in enumerate(zip(term, analysis.axes(operand), strict=True)):
            letters[letter] = analysis.unify(letters[letter], axis) if letter in letters else axis
            found[letter] = operand, dim
    for letter in letters.keys() - set(out):
        analysis.contracts(letters[letter], *operands)
    if all(operand in analysis.clean for operand in operands):
        analysis.clean.add(node)
    analysis.cost(*found.values())
    return [letters[letter] for letter in out]


def _count(analysis: Analysis, node: Node, contracted: tuple[Node, int]) -> None:
    analysis.cost(*((node, dim) for dim in range(len(sizes(node)))), contracted)
