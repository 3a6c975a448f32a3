"""Operators that only rearrange or repeat: permute, expand and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.nodes import argument, has_argument, numbers, positional, sizes
from autoprune.graph.rules._base import rule


@rule("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes", "mT")
def permute(coupling: Coupling, node: Node) -> Axes:
    coupling.carries_zero(node, positional(node))
    source = positional(node)
    axes = list(coupling.axes(source))
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
def unsqueeze(coupling: Coupling, node: Node) -> Axes:
    coupling.carries_zero(node, positional(node))
    axes = list(coupling.axes(positional(node)))
    dim = argument(node, "dim")
    axes.insert(dim if dim >= 0 else dim + len(axes) + 1, None)
    return axes


@rule("squeeze")
def squeeze(coupling: Coupling, node: Node) -> Axes:
    coupling.carries_zero(node, positional(node))
    source = positional(node)
    axes, before = coupling.axes(source), sizes(source)
    dims = argument(node, "dim") if has_argument(node, "dim") else list(range(len(axes)))
    listed = {dim % len(axes) for dim in (dims if isinstance(dims, list | tuple) else [dims])}
    return [axis for dim, axis in enumerate(axes) if dim not in listed or before[dim] != 1]


@rule("expand", "expand_as", "broadcast_to")
def expand(coupling: Coupling, node: Node) -> Axes:
    """A copied dimension may be cut with whatever it meets later; ``expand_as`` takes the size of the other tensor."""
    coupling.carries_zero(node, positional(node))
    source = positional(node)
    assert isinstance(source, Node)
    axes, before, after = coupling.axes(source), numbers(source), numbers(node)
    lead = len(after) - len(before)
    result: Axes = []
    for dim, size in enumerate(sizes(node)):
        if dim >= lead and before[dim - lead] == after[dim]:
            result.append(axes[dim - lead])
        elif has_argument(node, "other"):
            result.append(coupling.axes(argument(node, "other"))[dim])
        else:
            static = size is not None and size > 1 and has_argument(node, "size")
            result.append(coupling.atoms.fresh(size) if static and size is not None else None)
    return result


@rule("repeat", "tile", "repeat_interleave")
def repeat(coupling: Coupling, node: Node) -> Axes:
    """Copies of each index live and die with it."""
    coupling.carries_zero(node, positional(node))
    source = positional(node)
    assert isinstance(source, Node)
    axes, before, after = coupling.axes(source), numbers(source), sizes(node)
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
def size_of(coupling: Coupling, node: Node) -> None:
    """Sizes computed at run time must not move under the ones that were baked in."""
    axes = coupling.axes(positional(node))
    if axes:
        coupling.freeze(axes[positional(node, 1)])
