"""Joining, taking parts, padding, looking up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import FROZEN, Axis
from autoprune.graph.rules._base import Axes, argument, numbers, positional, rewrite, rule, set_argument, sizes

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut


def _carry_clean(analysis: Analysis, node: Node, *sources: Any) -> None:
    if all(source in analysis.clean for source in sources):
        analysis.clean.add(node)


@rule("cat", "concat", "concatenate")
def concatenate(analysis: Analysis, node: Node) -> Axes:
    tensors = [tensor for tensor in positional(node) if sizes(tensor) != [0]]
    _carry_clean(analysis, node, *tensors)
    result = list(analysis.axes(tensors[0]))
    along = argument(node, "dim") % len(result)
    for tensor in tensors[1:]:
        for dim, axis in enumerate(analysis.axes(tensor)):
            if dim != along:
                result[dim] = analysis.unify(result[dim], axis)
    result[along] = _joined(analysis, [(analysis.axes(tensor)[along], sizes(tensor)[along]) for tensor in tensors])
    return result


def _joined(analysis: Analysis, parts: list[tuple[Axis, int | None]]) -> Axis:
    if any(size is None for _, size in parts):
        analysis.freeze(*(axis for axis, _ in parts))
        return None
    if all(axis is None for axis, _ in parts):
        return None
    return np.concatenate([np.full(size or 0, FROZEN) if axis is None else axis for axis, size in parts])


@rule("stack")
def stack(analysis: Analysis, node: Node) -> Axes:
    tensors = positional(node)
    _carry_clean(analysis, node, *tensors)
    result = list(analysis.axes(tensors[0]))
    for tensor in tensors[1:]:
        result = [analysis.unify(left, right) for left, right in zip(result, analysis.axes(tensor), strict=True)]
    dim = argument(node, "dim")
    result.insert(dim if dim >= 0 else dim + len(result) + 1, None)
    return result


@rule("slice")
def take_slice(analysis: Analysis, node: Node) -> Axes:
    source, dim = positional(node), argument(node, "dim")
    _carry_clean(analysis, node, source)
    axes = list(analysis.axes(source))
    if axes[dim] is not None:
        axes[dim] = _sliced(analysis, node, dim, axes[dim])
    return axes


def _sliced(analysis: Analysis, node: Node, dim: int, axis: Axis) -> Axis:
    assert axis is not None
    bounds = _bounds(node)
    if bounds == slice(0, None, 1):
        return axis
    if bounds is None or sizes(positional(node))[dim] is None:
        analysis.freeze(axis)
        return None
    return axis[bounds]


def _bounds(node: Node) -> slice | None:
    start, end, step = (argument(node, name) for name in ("start", "end", "step"))
    if any(isinstance(value, Node) for value in (start, end, step)):
        return None
    return slice(start or 0, None if end is None or end >= 2**62 else end, step)


@rewrite("slice")
def renew_slice(cut: Cut, old: Node, new: Node) -> Node | None:
    dim, bounds = argument(old, "dim"), _bounds(old)
    alive = cut.alive(positional(old), dim)
    if alive is None or bounds in (None, slice(0, None, 1)):
        return None
    picked = np.zeros(len(alive), dtype=bool)
    picked[bounds] = True
    return _take(cut, new, dim, np.flatnonzero(picked[alive]))


def _take(cut: Cut, new: Node, dim: int, positions: np.ndarray[Any, Any]) -> Node | None:
    """A slice where the positions are evenly spaced, an index_select where they are not."""
    steps = np.diff(positions)
    if len(positions) == 0 or (steps == (steps[0] if len(steps) else 1)).all():
        step = int(steps[0]) if len(steps) else 1
        first = int(positions[0]) if len(positions) else 0
        last = int(positions[-1]) + 1 if len(positions) else 0
        for name, value in (("start", first), ("end", last), ("step", step)):
            set_argument(new, name, value)
        return None
    return cut.index_select(new, new.args[0], dim, positions)


@rule("select")
def select(analysis: Analysis, node: Node) -> Axes:
    """The selected index must stay."""
    source, dim, index = positional(node), argument(node, "dim"), argument(node, "index")
    _carry_clean(analysis, node, source)
    axes = list(analysis.axes(source))
    axis = axes.pop(dim)
    if axis is not None:
        analysis.freeze(axis if isinstance(index, Node) or len(axis) != sizes(source)[dim] else axis[[index]])
    return axes


@rewrite("select")
def renew_select(cut: Cut, old: Node, new: Node) -> None:
    dim, index = argument(old, "dim"), argument(old, "index")
    alive = cut.alive(positional(old), dim)
    if alive is not None and not isinstance(index, Node):
        set_argument(new, "index", int(alive[: index % len(alive)].sum()))


@rule("unbind")
def unbind(analysis: Analysis, node: Node) -> list[Axes]:
    source, dim = positional(node), argument(node, "dim")
    _carry_clean(analysis, node, source)
    axes = list(analysis.axes(source))
    analysis.freeze(axes.pop(dim))
    return [list(axes) for _ in node.meta["val"]]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(analysis: Analysis, node: Node) -> list[Axes]:
    source, dim = positional(node), argument(node, "dim")
    _carry_clean(analysis, node, source)
    axes = list(analysis.axes(source))
    axis = axes[dim]
    if axis is None:
        return [list(axes) for _ in node.meta["val"]]
    edges = np.cumsum([int(part.shape[dim]) for part in node.meta["val"]])[:-1]
    return [[*axes[: dim % len(axes)], part, *axes[dim % len(axes) + 1 :]] for part in np.split(axis, edges)]


@rewrite("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def renew_split(cut: Cut, old: Node, new: Node) -> Node | None:
    import torch

    dim = argument(old, "dim")
    alive = cut.alive(positional(old), dim)
    if alive is None:
        return None
    parts = np.split(alive, np.cumsum([int(part.shape[dim]) for part in old.meta["val"]])[:-1])
    with new.graph.inserting_before(new):
        counts = [int(part.sum()) for part in parts]
        return new.graph.call_function(torch.ops.aten.split_with_sizes.default, (new.args[0], counts, dim))


@rule("pad", "constant_pad_nd")
def pad(analysis: Analysis, node: Node) -> Axes:
    """Padded positions are new indices: they may go when what they are added to goes (option-A shortcuts)."""
    source, amounts = positional(node), argument(node, "pad")
    constant = argument(node, "mode") == "constant" if "constant_pad" not in str(node.target) else True
    axes = list(analysis.axes(source))
    if constant and not argument(node, "value"):
        _carry_clean(analysis, node, source)
    for number in range(len(amounts) // 2):
        dim = len(axes) - 1 - number
        axes[dim] = _padded(analysis, axes[dim], sizes(source)[dim], amounts[2 * number : 2 * number + 2], constant)
    return axes


def _padded(analysis: Analysis, axis: Axis, size: int | None, amounts: list[Any], constant: bool) -> Axis:
    if amounts[0] == 0 and amounts[1] == 0:
        return axis
    plain = constant and all(isinstance(amount, int) and amount >= 0 for amount in amounts)
    if not plain or axis is None or size is None:
        analysis.freeze(axis)
        return None
    return np.concatenate([analysis.atoms.fresh(amounts[0]), axis, analysis.atoms.fresh(amounts[1])])


@rewrite("pad", "constant_pad_nd")
def renew_pad(cut: Cut, old: Node, new: Node) -> None:
    amounts = list(argument(new, "pad"))
    rank = len(sizes(old))
    for number in range(len(amounts) // 2):
        alive = cut.alive(old, rank - 1 - number)
        before, after = amounts[2 * number : 2 * number + 2]
        if alive is not None and (before or after):
            amounts[2 * number] = int(alive[:before].sum())
            amounts[2 * number + 1] = int(alive[len(alive) - after :].sum())
    set_argument(new, "pad", amounts)


@rule("embedding")
def embedding(analysis: Analysis, node: Node) -> Axes:
    """Rows are looked up by number; only the width can be cut."""
    rows, width = analysis.axes(argument(node, "weight"))
    analysis.freeze(rows)
    analysis.kind(width, "embedding")
    if argument(node, "weight") in analysis.clean:
        analysis.clean.add(node)
    return [*analysis.axes(argument(node, "indices")), width]


@rule("index_select")
def index_select(analysis: Analysis, node: Node) -> Axes:
    axes = list(analysis.axes(positional(node)))
    dim = argument(node, "dim")
    _carry_clean(analysis, node, positional(node))
    analysis.freeze(axes[dim], *analysis.axes(argument(node, "index")))
    axes[dim] = None
    return axes


@rule("index")
def index(analysis: Analysis, node: Node) -> Axes:
    """Indexed dimensions stay whole; the others pass (in place when the indices are adjacent, else behind them)."""
    source, indices = positional(node), list(argument(node, "indices"))
    _carry_clean(analysis, node, source)
    axes = list(analysis.axes(source))
    indices += [None] * (len(axes) - len(indices))
    used = [dim for dim, item in enumerate(indices) if item is not None]
    analysis.freeze(*(axes[dim] for dim in used), *(axis for dim in used for axis in analysis.axes(indices[dim])))
    others = [axis for dim, axis in enumerate(axes) if dim not in used]
    count = len(numbers(node)) - len(others)
    adjacent = used == list(range(used[0], used[0] + len(used)))
    place = used[0] if adjacent else 0
    return [*others[:place], *[None] * count, *others[place:]]


@rule("gather", "take_along_dim")
def gather(analysis: Analysis, node: Node) -> Axes:
    from autoprune.graph.analysis import frozen_like

    analysis.freeze(*(axis for source in node.all_input_nodes for axis in analysis.axes(source)))
    frozen: Axes = frozen_like(node.meta.get("val"))
    return frozen
