"""Taking single indices, looking up."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.fx import Node

from autoprune.graph.coupling import Axes, Coupling, frozen_like
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, numbers, positional, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule


@rule("select")
def select(coupling: Coupling, node: Node) -> Axes:
    """The selected index must stay."""
    source, dim, index = positional(node), argument(node, "dim"), argument(node, "index")
    coupling.carries_zero(node, source)
    axes = list(coupling.axes(source))
    axis = axes.pop(dim)
    if axis is not None:
        coupling.freeze(axis if isinstance(index, Node) or len(axis) != sizes(source)[dim] else axis[[index]])
    return axes


@rewrite("select")
def renew_select(edit: Edit, old: Node, new: Node) -> None:
    dim, index = argument(old, "dim"), argument(old, "index")
    alive = edit.alive(positional(old), dim)
    if alive is not None and not isinstance(index, Node):
        set_argument(new, "index", int(alive[: index % len(alive)].sum()))


@rule("embedding")
def embedding(coupling: Coupling, node: Node) -> Axes:
    """Rows are looked up by number; only the width can be edit."""
    rows, width = coupling.axes(argument(node, "weight"))
    coupling.freeze(rows)
    coupling.kind(width, "embedding")
    coupling.carries_zero(node, argument(node, "weight"))
    return [*coupling.axes(argument(node, "indices")), width]


@rule("index_select")
def index_select(coupling: Coupling, node: Node) -> Axes:
    """A constant order moves indices with their atoms; an index that is computed needs the dimension whole."""
    axes = list(coupling.axes(positional(node)))
    dim, order = argument(node, "dim"), _order(coupling, node)
    coupling.carries_zero(node, positional(node))
    axis = axes[dim]
    if order is None or axis is None:
        coupling.freeze(axis, *coupling.axes(argument(node, "index")))
        axes[dim] = None
    else:
        axes[dim] = axis[order]
    return axes


@rewrite("index_select")
def renew_order(edit: Edit, old: Node, new: Node) -> Node | None:
    dim, order = argument(old, "dim"), _order(edit.coupling, old)
    alive = edit.alive(positional(old), dim)
    if alive is None or order is None:
        return None
    return edit.index_select(new, positional(new), dim, (alive.cumsum() - 1)[order[alive[order]]])


def _order(coupling: Coupling, node: Node) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    constant = coupling.constants.get(str(argument(node, "index").target))
    return constant.numpy() if isinstance(constant, Tensor) else None


@rule("index")
def index(coupling: Coupling, node: Node) -> Axes:
    """Indexed dimensions stay whole; the others pass (in place when the indices are adjacent, else behind them)."""
    source, indices = positional(node), list(argument(node, "indices"))
    coupling.carries_zero(node, source)
    axes = list(coupling.axes(source))
    indices += [None] * (len(axes) - len(indices))
    used = [dim for dim, item in enumerate(indices) if item is not None]
    coupling.freeze(*(axes[dim] for dim in used), *(axis for dim in used for axis in coupling.axes(indices[dim])))
    others = [axis for dim, axis in enumerate(axes) if dim not in used]
    count = len(numbers(node)) - len(others)
    adjacent = used == list(range(used[0], used[0] + len(used)))
    place = used[0] if adjacent else 0
    return [*others[:place], *[None] * count, *others[place:]]


@rule("gather", "take_along_dim")
def gather(coupling: Coupling, node: Node) -> Axes:
    coupling.freeze(*(axis for source in node.all_input_nodes for axis in coupling.axes(source)))
    frozen: Axes = frozen_like(node.meta.get("val"))
    return frozen
