"""Reductions over dimensions."""

from __future__ import annotations

from torch.fx import Node

from autoprune.graph.coupling import Axes, Coupling, frozen_like
from autoprune.graph.nodes import argument, has_argument, positional, sizes
from autoprune.graph.rules._base import rule


@rule(
    "mean",
    "sum",
    "amax",
    "amin",
    "var",
    "std",
    "linalg_vector_norm",
    "logsumexp",
    "prod",
    "max",
    "min",
    "any",
    "all",
    "norm",
)
def reduction(coupling: Coupling, node: Node) -> object:
    """Only a sum over zeros is the sum over what is kept; a mean divides by fewer."""
    source = positional(node)
    axes = coupling.axes(source)
    several = isinstance(node.meta.get("val"), tuple | list)
    if len(node.all_input_nodes) > 1:
        from autoprune.graph.rules.elementwise import pointwise

        return pointwise(coupling, node)  # max(a, b)
    dims = reduced(node, len(axes))
    for dim in dims:
        if "sum" in str(node.target) and "log" not in str(node.target):
            coupling.contracts(axes[dim], source)
        elif several:
            coupling.freeze(axes[dim])
        else:
            coupling.mixes(axes[dim])
    if source in coupling.clean and any(name in str(node.target) for name in ("mean", "sum", "amax", "norm")):
        coupling.clean.add(node)
    keep = has_argument(node, "keepdim") and argument(node, "keepdim")
    result: Axes = [None if dim in dims else axis for dim, axis in enumerate(axes) if keep or dim not in dims]
    return [result, list(result)] if several else result


def reduced(node: Node, rank: int) -> set[int]:
    """The dimensions of its input, of that rank, that a reduction is over."""
    dims = argument(node, "dim") if has_argument(node, "dim") else None
    if dims is None or dims == []:
        return set(range(rank))
    return {dim % rank for dim in (dims if isinstance(dims, list | tuple) else [dims])} if rank else set()


@rule("argmax", "argmin", "sort", "topk", "cumsum", "cumprod", "argsort", "flip", "roll")
def ordered(coupling: Coupling, node: Node) -> object:
    """The position along the dimension matters: it stays whole."""
    source = positional(node)
    axes = list(coupling.axes(source))
    dims = argument(node, "dims" if has_argument(node, "dims") else "dim")
    listed = dims if isinstance(dims, list | tuple) else [dims]
    if not axes or None in listed or not listed:
        coupling.freeze(*axes)
        return frozen_like(node.meta.get("val"))
    for dim in listed:
        if axes[dim] is not None:
            coupling.freeze(axes[dim])
            coupling.block(node, "the position along the dimension matters")
            axes[dim] = None
    if isinstance(node.meta.get("val"), tuple | list):
        return [axes, list(axes)]
    if len(sizes(node)) < len(axes):
        del axes[listed[0]]
    return axes
