"""Operators that only rearrange: reshape, permute, expand and their kin."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.rules._base import (
    LARGE,
    Axes,
    argument,
    has_argument,
    numbers,
    positional,
    rewrite,
    rule,
    set_argument,
    sizes,
)

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as", "_reshape_alias", "ravel")
def reshape(analysis: Analysis, node: Node) -> Axes:
    """Blocks of dimensions with equal products correspond; within a block: flatten, then split."""
    source = positional(node)
    assert isinstance(source, Node)
    _carry_clean(analysis, node)
    axes, before, after = analysis.axes(source), numbers(source), numbers(node)
    if prod(before) != prod(after) or 0 in before:  # a view as another dtype
        analysis.freeze(*axes)
        analysis.block(node, "this view does not keep the number of elements")
        return [None] * len(after)
    result: Axes = []
    for ins, outs in _blocks(before, after):
        result += _reshape_block(analysis, [(axes[i], before[i]) for i in ins], [after[o] for o in outs])
    return result


def _blocks(before: list[int], after: list[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions, row-major, with equal products on both sides."""
    blocks: list[tuple[list[int], list[int]]] = []
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
        blocks.append((ins, outs))
    return blocks


def _reshape_block(analysis: Analysis, ins: list[tuple[Axis, int]], outs: list[int]) -> Axes:
    flat, count = None, 1
    for axis, size in ins:
        flat = merge(analysis, (flat, count), (axis, size))
        count *= size
    return split(analysis, flat, outs)


def merge(analysis: Analysis, outer: tuple[Axis, int], inner: tuple[Axis, int]) -> Axis:
    """Atoms of (outer, inner) flattened. A pattern shorter than its dimension repeats (the batch is symbolic)."""
    (rows, row_count), (columns, column_count) = outer, inner
    if rows is None:
        return columns if columns is None or row_count >= LARGE else np.tile(columns, row_count)
    if columns is None:
        if column_count < LARGE:
            return np.repeat(rows, column_count)
    elif len(columns) == column_count:
        return analysis.atoms.grid(rows, columns)
    analysis.freeze(rows, columns)
    return None


def split(analysis: Analysis, axis: Axis, outs: list[int]) -> Axes:
    """Atoms of a dimension written as ``outs``, outermost first."""
    if not outs:
        analysis.freeze(axis)
        return []
    if axis is None:
        return [None] * len(outs)
    if len(outs) == 1:
        return [axis]
    first, rest = outs[0], prod(outs[1:])
    if len(axis) == first * rest:
        outer, inner = analysis.atoms.factor(axis, first, rest)
        return [outer, *split(analysis, inner, outs[1:])]
    if len(axis) == rest:
        return [None, *split(analysis, axis, outs[1:])]
    if rest % len(axis) == 0:
        return [None, *split(analysis, np.tile(axis, rest // len(axis)), outs[1:])]
    if len(axis) % rest == 0:
        outer, inner = analysis.atoms.factor(axis, len(axis) // rest, rest)
        return [outer, *split(analysis, inner, outs[1:])]
    analysis.freeze(axis)
    return [None] * len(outs)


@rewrite("view", "reshape", "_unsafe_view", "unflatten", "expand", "_reshape_alias")
def resize(cut: Cut, old: Node, new: Node) -> None:
    """Renew the baked-in sizes that the cut changed."""
    name = next(n for n in ("size", "shape", "sizes") if has_argument(old, n))
    listed = argument(new, name)
    first = argument(old, "dim") % len(sizes(positional(old))) if has_argument(old, "dim") else 0
    set_argument(new, name, [renew(cut, old, new, first + k, size) for k, size in enumerate(listed)])


def renew(cut: Cut, old: Node, new: Node, dim: int, size: Any) -> Any:
    """The size of one dimension after the cut; -1 stays, a symbolic size shrinks in proportion."""
    alive = cut.alive(old, dim)
    if alive is None or alive.all() or size == -1:
        return size
    if not isinstance(size, Node):
        return int(alive.sum())
    with new.graph.inserting_before(new):
        scaled = new.graph.call_function(operator.mul, (size, int(alive.sum())))
        return new.graph.call_function(operator.floordiv, (scaled, len(alive)))


@rule("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes", "mT")
def permute(analysis: Analysis, node: Node) -> Axes:
    _carry_clean(analysis, node)
    source = positional(node)
    axes = list(analysis.axes(source))
    name = str(node.target)
    if "permute" in name:
        return [axes[dim] for dim in argument(node, "dims")]
    if "movedim" in name:
        order = _moved(len(axes), positional(node, 1), positional(node, 2))
        return [axes[dim] for dim in order]
    if "transpose" in name or "swapaxes" in name:
        a, b = positional(node, 1), positional(node, 2)
        axes[a], axes[b] = axes[b], axes[a]
        return axes
    return axes[::-1] if "mT" not in name else [*axes[:-2], axes[-1], axes[-2]]


def _moved(rank: int, source: Any, destination: Any) -> list[int]:
    sources = [dim % rank for dim in (source if isinstance(source, list | tuple) else [source])]
    targets = [dim % rank for dim in (destination if isinstance(destination, list | tuple) else [destination])]
    order = [dim for dim in range(rank) if dim not in sources]
    for target, dim in sorted(zip(targets, sources, strict=True)):
        order.insert(target, dim)
    return order


@rule("unsqueeze")
def unsqueeze(analysis: Analysis, node: Node) -> Axes:
    _carry_clean(analysis, node)
    axes = list(analysis.axes(positional(node)))
    dim = argument(node, "dim")
    axes.insert(dim if dim >= 0 else dim + len(axes) + 1, None)
    return axes


@rule("squeeze")
def squeeze(analysis: Analysis, node: Node) -> Axes:
    _carry_clean(analysis, node)
    source = positional(node)
    axes, before = analysis.axes(source), sizes(source)
    dims = argument(node, "dim") if has_argument(node, "dim") else list(range(len(axes)))
    listed = {dim % len(axes) for dim in (dims if isinstance(dims, list | tuple) else [dims])}
    return [axis for dim, axis in enumerate(axes) if dim not in listed or before[dim] != 1]


@rule("expand", "expand_as", "broadcast_to")
def expand(analysis: Analysis, node: Node) -> Axes:
    """A copied dimension may be cut with whatever it meets later."""
    _carry_clean(analysis, node)
    source = positional(node)
    assert isinstance(source, Node)
    axes, before, after = analysis.axes(source), numbers(source), numbers(node)
    lead = len(after) - len(before)
    result: Axes = []
    for dim, size in enumerate(sizes(node)):
        if dim >= lead and before[dim - lead] == after[dim]:
            result.append(axes[dim - lead])
        else:
            static = size is not None and size > 1 and has_argument(node, "size")
            result.append(analysis.atoms.fresh(size) if static and size is not None else None)
    return result


@rule("repeat", "tile", "repeat_interleave")
def repeat(analysis: Analysis, node: Node) -> Axes:
    """Copies of each index live and die with it."""
    _carry_clean(analysis, node)
    source = positional(node)
    assert isinstance(source, Node)
    axes, before, after = analysis.axes(source), numbers(source), sizes(node)
    result: Axes = []
    for dim, size in enumerate(after):
        position = dim - len(after) + len(before)
        axis = axes[position] if position >= 0 else None
        if axis is not None and size is not None and size != before[position]:
            times = size // before[position]
            axis = np.repeat(axis, times) if "interleave" in str(node.target) else np.tile(axis, times)
        result.append(axis)
    return result


@rule("sym_size")
def size_of(analysis: Analysis, node: Node) -> None:
    """Sizes computed at run time must not move under the ones that were baked in."""
    axes = analysis.axes(positional(node))
    if axes:
        analysis.freeze(axes[positional(node, 1)])


def _carry_clean(analysis: Analysis, node: Node) -> None:
    if positional(node) in analysis.clean:
        analysis.clean.add(node)
