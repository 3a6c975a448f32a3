"""Values that a drop makes the same for every sample: which of their dimensions have size 1 and broadcast.

A layer without inputs answers with its bias, (1, C, 1, 1) for a convolution. The operators behind it work on that, each
in its own way, until a value that depends on the input is added or multiplied and brings the full shape back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch._ops import OpOverload
from torch.fx import Node

from autoprune.graph.nodes import argument, is_pointwise, numbers, operator_name, positional, sizes, sizes_at_batch_one
from autoprune.graph.rules import RULES, lookup
from autoprune.graph.rules.elementwise import dropout, pointwise
from autoprune.graph.rules.reduce import reduced
from autoprune.graph.rules.reshape import blocks

Dims: TypeAlias = frozenset[int]
Narrow: TypeAlias = Mapping[Node, Dims]
"""Constant value -> its narrow dimensions: of size 1, where the dense model's value is larger."""

RESHAPES = ("view", "reshape", "_unsafe_view")


def is_elementwise(node: Node) -> bool:
    """Does the operator work index by index, with broadcasting?"""
    rule = lookup(RULES, node) if node.op == "call_function" else None
    return rule in (pointwise, dropout) if rule is not None else is_pointwise(node)


def narrow_dims(node: Node, narrow: Narrow) -> Dims | None:
    """The narrow dimensions of a result; None where the operator cannot do with narrow operands."""
    if is_elementwise(node):
        return _broadcast(node, narrow)
    source = positional(node) if node.op == "call_function" else None
    if not isinstance(source, Node) or source not in narrow:
        return None
    name = operator_name(node)
    if name == "expand_as":
        return _expanded_as(node, narrow)
    alone = all(other is source or other not in narrow for other in node.all_input_nodes)
    return _SINGLE[name](node, narrow[source]) if alone and name in _SINGLE else None


def plain(node: Node) -> OpOverload | None:
    """The operator that does out of place what this one does; None where there is none."""
    packet = getattr(torch.ops.aten, operator_name(node).removesuffix("_"), None)
    found = getattr(packet, getattr(node.target, "_overloadname", ""), None)
    return found if isinstance(found, OpOverload) and not found._schema.is_mutable else None


def _broadcast(node: Node, narrow: Narrow) -> Dims:
    rank = len(sizes(node))

    def provides(operand: Node, dim: int) -> bool:
        position = dim - rank + len(sizes(operand))
        return position >= 0 and sizes(operand)[position] != 1 and position not in narrow.get(operand, ())

    return frozenset(
        dim
        for dim, size in enumerate(sizes(node))
        if size != 1 and not any(provides(operand, dim) for operand in node.all_input_nodes)
    )


def _normalised(node: Node, dims: Dims) -> Dims | None:
    """Norms: narrow dimensions have the statistics of the full ones; those with parameters must be whole."""
    count = len(argument(node, "normalized_shape")) if operator_name(node) in ("layer_norm", "rms_norm") else 0
    along = set(range(len(sizes(node)) - count, len(sizes(node)))) if count else {1}
    return dims if dims.isdisjoint(along) else None


def _layer(node: Node, dims: Dims) -> Dims | None:
    """A layer takes every sample by itself: only the batch may be narrow."""
    before = sizes_at_batch_one(positional(node))
    return dims if all(before[dim] == 1 for dim in dims) and len(before) - 1 not in dims else None


def _averaged(node: Node, dims: Dims) -> Dims:
    rank = len(sizes(positional(node)))
    gone = reduced(node, rank)
    left = range(rank) if argument(node, "keepdim") else [dim for dim in range(rank) if dim not in gone]
    return frozenset(place for place, dim in enumerate(left) if dim in dims - gone)


def _pooled(node: Node, dims: Dims) -> Dims:
    """Adaptive pooling fills its output size from any input size."""
    return dims & {0, 1}


def _permuted(node: Node, dims: Dims) -> Dims:
    rank = len(sizes(node))
    order = list(range(rank))
    if operator_name(node) == "permute":
        order = [dim % rank for dim in argument(node, "dims")]
    else:
        a, b = argument(node, "dim0") % rank, argument(node, "dim1") % rank
        order[a], order[b] = b, a
    return frozenset(place for place, dim in enumerate(order) if dim in dims)


def _reshaped(node: Node, dims: Dims) -> Dims | None:
    """Dimensions that are written as others must be narrow together, or none of them."""
    before, after = numbers(positional(node)), numbers(node)
    found: set[int] = set()
    for ins, outs in blocks(before, after):
        narrow = {dim in dims for dim in ins if before[dim] != 1}
        if len(narrow) > 1:
            return None
        found.update(dim for dim in outs if after[dim] != 1 and narrow == {True})
    return frozenset(found)


def _expanded(node: Node, dims: Dims) -> Dims:
    listed, lead = argument(node, "size"), len(sizes(node)) - len(sizes(positional(node)))
    return frozenset(dim + lead for dim in dims if listed[dim + lead] == -1)


def _expanded_as(node: Node, narrow: Narrow) -> Dims | None:
    source, other = positional(node), argument(node, "other")
    same = sizes(source) and len(sizes(source)) == len(sizes(node))
    wanted = narrow.get(other, frozenset())
    fits = same and all(dim in narrow[source] or sizes(source)[dim] == 1 for dim in wanted)
    return wanted if fits else None


_SINGLE: dict[str, Callable[[Node, Dims], Dims | None]] = {
    **dict.fromkeys(("batch_norm", "group_norm", "layer_norm", "rms_norm", "prelu"), _normalised),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear"), _layer),
    **dict.fromkeys((f"adaptive_avg_pool{rank}d" for rank in (1, 2, 3)), _pooled),
    **dict.fromkeys((*RESHAPES, "flatten", "unsqueeze"), _reshaped),
    "mean": _averaged,
    "permute": _permuted,
    "transpose": _permuted,
    "expand": _expanded,
}
