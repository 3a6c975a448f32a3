"""Writes a channel shuffle (split a dimension, transpose the parts, join them) as the permutation that it is.

As three rearrangements it would keep channels in a rectangle of (group, member), although any of them can go.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from autoprune.graph.nodes import argument, numbers, operator_name, positional

_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unflatten")


def permute_shuffles(traced: GraphModule) -> dict[str, Tensor]:
    """Replace every shuffle by an ``index_select``; returns the permutations by the names that the graph uses."""
    constants: dict[str, Tensor] = {}
    for last in list(traced.graph.nodes):
        found = _shuffle(last)
        if found is not None:
            source, dim, order = found
            name = f"_shuffle_{len(constants)}"
            constants[name] = torch.from_numpy(order)
            traced.register_buffer(name, constants[name])
            with traced.graph.inserting_before(last):
                index = traced.graph.create_node("get_attr", name)
                picked = traced.graph.call_function(torch.ops.aten.index_select.default, (source, dim, index))
            index.meta, picked.meta = {"val": constants[name]}, dict(last.meta)
            last.replace_all_uses_with(picked)
    traced.graph.eliminate_dead_code()
    return constants


def _shuffle(last: Node) -> tuple[Node, int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None:
    """Source, dimension and order when ``last`` ends a shuffle."""
    if not _is(last, _RESHAPES):
        return None
    node, order = positional(last), list(range(len(numbers(positional(last)))))
    while _is(node, ("transpose", "permute", "contiguous", "clone")) and len(node.users) == 1:
        order = _ordered(node, order)
        node = positional(node)
    if not _is(node, _RESHAPES) or order == sorted(order):
        return None
    source = positional(node)
    if not isinstance(source, Node) or numbers(source) != numbers(last):
        return None
    return _permutation(source, numbers(node), order)


def _is(node: object, names: tuple[str, ...]) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and operator_name(node) in names


def _ordered(node: Node, order: list[int]) -> list[int]:
    """Which dimension of this node's source each of the final ones is."""
    moved = list(range(len(order)))
    if _is(node, ("transpose",)):
        a, b = argument(node, "dim0"), argument(node, "dim1")
        moved[a], moved[b] = moved[b], moved[a]
    elif _is(node, ("permute",)):
        moved = [dim % len(order) for dim in argument(node, "dims")]
    return [moved[dim] for dim in order]


def _permutation(
    source: Node, split: list[int], order: list[int]
) -> tuple[Node, int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None:
    """Only within the parts of one dimension may the order change."""
    whole = numbers(source)
    parts = len(split) - len(whole) + 1
    moved = [dim for dim, place in enumerate(order) if dim != place]
    for dim, size in enumerate(whole):
        inside = range(dim, dim + parts)
        same = split[:dim] == whole[:dim] and split[dim + parts :] == whole[dim + 1 :]
        if parts > 1 and same and all(place in inside for place in moved):
            index = np.arange(size).reshape(split[dim : dim + parts])
            return source, dim, index.transpose([order[place] - dim for place in inside]).reshape(-1)
    return None
