"""Joining, taking parts, padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import FROZEN, Axis
from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, positional, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule


@rule("cat", "concat", "concatenate")
def concatenate(coupling: Coupling, node: Node) -> Axes:
    tensors = [tensor for tensor in positional(node) if sizes(tensor) != [0]]
    coupling.carries_zero(node, *tensors)
    result = list(coupling.axes(tensors[0]))
    along = argument(node, "dim") % len(result)
    for tensor in tensors[1:]:
        for dim, axis in enumerate(coupling.axes(tensor)):
            if dim != along:
                result[dim] = coupling.unify(result[dim], axis)
    result[along] = _joined(coupling, [(coupling.axes(tensor)[along], sizes(tensor)[along]) for tensor in tensors])
    return result


def _joined(coupling: Coupling, parts: list[tuple[Axis, int | None]]) -> Axis:
    if any(size is None for _, size in parts):
        coupling.freeze(*(axis for axis, _ in parts))
        return None
    if all(axis is None for axis, _ in parts):
        return None
    return np.concatenate([np.full(size or 0, FROZEN) if axis is None else axis for axis, size in parts])


@rule("stack")
def stack(coupling: Coupling, node: Node) -> Axes:
    tensors = positional(node)
    coupling.carries_zero(node, *tensors)
    result = list(coupling.axes(tensors[0]))
    for tensor in tensors[1:]:
        result = [coupling.unify(left, right) for left, right in zip(result, coupling.axes(tensor), strict=True)]
    dim = argument(node, "dim")
    result.insert(dim if dim >= 0 else dim + len(result) + 1, None)
    return result


@rule("slice")
def take_slice(coupling: Coupling, node: Node) -> Axes:
    source, dim = positional(node), argument(node, "dim")
    coupling.carries_zero(node, source)
    axes = list(coupling.axes(source))
    if axes[dim] is not None:
        axes[dim] = _sliced(coupling, node, dim, axes[dim])
    return axes


def _sliced(coupling: Coupling, node: Node, dim: int, axis: Axis) -> Axis:
    assert axis is not None
    bounds = _bounds(node)
    if bounds == slice(0, None, 1):
        return axis
    if bounds is None or sizes(positional(node))[dim] is None:
        coupling.freeze(axis)
        return None
    return axis[bounds]


def _bounds(node: Node) -> slice | None:
    start, end, step = (argument(node, name) for name in ("start", "end", "step"))
    if any(isinstance(value, Node) for value in (start, end, step)):
        return None
    return slice(start or 0, None if end is None or end >= 2**62 else end, step)


@rewrite("slice")
def renew_slice(edit: Edit, old: Node, new: Node) -> Node | None:
    dim, bounds = argument(old, "dim"), _bounds(old)
    alive = edit.alive(positional(old), dim)
    if alive is None or bounds in (None, slice(0, None, 1)):
        return None
    picked = np.zeros(len(alive), dtype=bool)
    picked[bounds] = True
    return _take(edit, new, dim, np.flatnonzero(picked[alive]))


def _take(edit: Edit, new: Node, dim: int, positions: np.ndarray[Any, Any]) -> Node | None:
    """A slice where the positions are evenly spaced, an index_select where they are not."""
    steps = np.diff(positions)
    if len(positions) == 0 or (steps == (steps[0] if len(steps) else 1)).all():
        step = int(steps[0]) if len(steps) else 1
        first = int(positions[0]) if len(positions) else 0
        last = int(positions[-1]) + 1 if len(positions) else 0
        for name, value in (("start", first), ("end", last), ("step", step)):
            set_argument(new, name, value)
        return None
    return edit.index_select(new, new.args[0], dim, positions)


@rule("unbind")
def unbind(coupling: Coupling, node: Node) -> list[Axes]:
    source, dim = positional(node), argument(node, "dim")
    coupling.carries_zero(node, source)
    axes = list(coupling.axes(source))
    coupling.freeze(axes.pop(dim))
    return [list(axes) for _ in node.meta["val"]]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(coupling: Coupling, node: Node) -> list[Axes]:
    source, dim = positional(node), argument(node, "dim")
    coupling.carries_zero(node, source)
    axes = list(coupling.axes(source))
    axis = axes[dim]
    if axis is None:
        return [list(axes) for _ in node.meta["val"]]
    edges = np.cumsum([int(part.shape[dim]) for part in node.meta["val"]])[:-1]
    return [[*axes[: dim % len(axes)], part, *axes[dim % len(axes) + 1 :]] for part in np.split(axis, edges)]


@rewrite("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def renew_split(edit: Edit, old: Node, new: Node) -> Node | None:
    import torch

    dim = argument(old, "dim")
    alive = edit.alive(positional(old), dim)
    if alive is None:
        return None
    parts = np.split(alive, np.cumsum([int(part.shape[dim]) for part in old.meta["val"]])[:-1])
    with new.graph.inserting_before(new):
        counts = [int(part.sum()) for part in parts]
        return new.graph.call_function(torch.ops.aten.split_with_sizes.default, (new.args[0], counts, dim))


@rule("pad", "constant_pad_nd")
def pad(coupling: Coupling, node: Node) -> Axes:
    """Padded positions are new indices: they may go when what they are added to goes (option-A shortcuts)."""
    source, amounts = positional(node), argument(node, "pad")
    constant = argument(node, "mode") == "constant" if "constant_pad" not in str(node.target) else True
    axes = list(coupling.axes(source))
    if constant and not argument(node, "value"):
        coupling.carries_zero(node, source)
    for number in range(len(amounts) // 2):
        dim = len(axes) - 1 - number
        axes[dim] = _padded(coupling, axes[dim], sizes(source)[dim], amounts[2 * number : 2 * number + 2], constant)
    return axes


def _padded(coupling: Coupling, axis: Axis, size: int | None, amounts: list[Any], constant: bool) -> Axis:
    if amounts[0] == 0 and amounts[1] == 0:
        return axis
    plain = constant and all(isinstance(amount, int) and amount >= 0 for amount in amounts)
    if not plain or axis is None or size is None:
        coupling.freeze(axis)
        return None
    return np.concatenate([coupling.atoms.fresh(amounts[0]), axis, coupling.atoms.fresh(amounts[1])])


@rewrite("pad", "constant_pad_nd")
def renew_pad(edit: Edit, old: Node, new: Node) -> None:
    amounts = list(argument(new, "pad"))
    rank = len(sizes(old))
    for number in range(len(amounts) // 2):
        alive = edit.alive(old, rank - 1 - number)
        before, after = amounts[2 * number : 2 * number + 2]
        if alive is not None and (before or after):
            amounts[2 * number] = int(alive[:before].sum())
            amounts[2 * number + 1] = int(alive[len(alive) - after :].sum())
    set_argument(new, "pad", amounts)
