"""Writing dimensions as others: reshape and its kin."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import LARGE, argument, has_argument, numbers, positional, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as", "_reshape_alias", "ravel")
def reshape(coupling: Coupling, node: Node) -> Axes:
    """Blocks of dimensions with equal products correspond; within a block: flatten, then split."""
    source = positional(node)
    assert isinstance(source, Node)
    coupling.carries_zero(node, positional(node))
    axes, before, after = coupling.axes(source), numbers(source), numbers(node)
    if prod(before) != prod(after) or 0 in before:  # a view as another dtype
        coupling.freeze(*axes)
        coupling.block(node, "this view does not keep the number of elements")
        return [None] * len(after)
    result: Axes = []
    for ins, outs in blocks(before, after):
        result += _reshape_block(coupling, [(axes[i], before[i]) for i in ins], [after[o] for o in outs])
    return result


def blocks(before: list[int], after: list[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions, row-major, with equal products on both sides."""
    found: list[tuple[list[int], list[int]]] = []
    i = o = 0
    while i < len(before) or o < len(after):
        ins: list[int] = []
        outs: list[int] = []
        have = want = 1
        while True:
            if have == want and (ins or outs) and have != 1:
                break
            if have <= want and i < len(before):
                ins.append(i)
                have *= before[i]
                i += 1
            elif o < len(after):
                outs.append(o)
                want *= after[o]
                o += 1
            elif i < len(before):
                ins.append(i)
                have *= before[i]
                i += 1
            else:
                break
        found.append((ins, outs))
    return found


def _reshape_block(coupling: Coupling, ins: list[tuple[Axis, int]], outs: list[int]) -> Axes:
    flat, count = None, 1
    for axis, size in ins:
        flat = merge(coupling, (flat, count), (axis, size))
        count *= size
    return split(coupling, flat, outs)


def merge(coupling: Coupling, outer: tuple[Axis, int], inner: tuple[Axis, int]) -> Axis:
    """Atoms of (outer, inner) flattened. A pattern shorter than its dimension repeats (the batch is symbolic)."""
    (rows, row_count), (columns, column_count) = outer, inner
    if rows is None:
        return columns if columns is None or row_count >= LARGE else np.tile(columns, row_count)
    if columns is None:
        if column_count < LARGE:
            return np.repeat(rows, column_count)
    elif len(columns) == column_count:
        return coupling.atoms.grid(rows, columns)
    coupling.freeze(rows, columns)
    return None


def split(coupling: Coupling, axis: Axis, outs: list[int]) -> Axes:
    """Atoms of a dimension written as ``outs``, outermost first."""
    if not outs:
        coupling.freeze(axis)
        return []
    if axis is None:
        return [None] * len(outs)
    if len(outs) == 1:
        return [axis]
    first, rest = outs[0], prod(outs[1:])
    if len(axis) == first * rest:
        outer, inner = coupling.atoms.factor(axis, first, rest)
        return [outer, *split(coupling, inner, outs[1:])]
    if len(axis) == rest:
        return [None, *split(coupling, axis, outs[1:])]
    if rest % len(axis) == 0:
        return [None, *split(coupling, np.tile(axis, rest // len(axis)), outs[1:])]
    if len(axis) % rest == 0:
        outer, inner = coupling.atoms.factor(axis, len(axis) // rest, rest)
        return [outer, *split(coupling, inner, outs[1:])]
    coupling.freeze(axis)
    return [None] * len(outs)


@rewrite("view", "reshape", "_unsafe_view", "unflatten", "expand", "_reshape_alias")
def resize(edit: Edit, old: Node, new: Node) -> None:
    """Renew the baked-in sizes that the cut changed."""
    name = next(n for n in ("size", "shape", "sizes") if has_argument(old, n))
    listed = argument(new, name)
    first = argument(old, "dim") % len(sizes(positional(old))) if has_argument(old, "dim") else 0
    set_argument(new, name, [renew(edit, old, new, first + k, size) for k, size in enumerate(listed)])


def renew(edit: Edit, old: Node, new: Node, dim: int, size: Any) -> Any:
    """The size of one dimension after the cut; -1 stays, a symbolic size shrinks in proportion."""
    alive = edit.alive(old, dim)
    if alive is None or alive.all() or size == -1:
        return size
    if not isinstance(size, Node):
        return int(alive.sum())
    with new.graph.inserting_before(new):
        scaled = new.graph.call_function(operator.mul, (size, int(alive.sum())))
        return new.graph.call_function(operator.floordiv, (scaled, len(alive)))
