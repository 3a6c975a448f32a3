"""The fused attention operator."""

from __future__ import annotations

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule


@rule("scaled_dot_product_attention")
def attention(coupling: Coupling, node: Node) -> Axes:
    """query (..., H, L, E), key (..., H, S, E), value (..., H, S, V): heads, E and V can each be edit."""
    query, key, value, mask = (argument(node, name) for name in ("query", "key", "value", "attn_mask"))
    q, k, v = list(coupling.axes(query)), list(coupling.axes(key)), list(coupling.axes(value))
    if argument(node, "enable_gqa"):
        q[-3] = _share_heads(coupling, node)
    result: Axes = []
    for dim, (a, b, c) in enumerate(zip(q[:-2], k[:-2], v[:-2], strict=True)):
        shared = coupling.unify(b, c)
        grouped = argument(node, "enable_gqa") and dim == len(q) - 3
        result.append(a if grouped else coupling.unify(a, shared))
    inner = coupling.unify(q[-1], k[-1])
    coupling.contracts(inner, query, key)
    coupling.mixes(coupling.unify(k[-2], v[-2]))
    result += [q[-2], v[-1]]
    _mask(coupling, result, k, mask)
    for axis, kind in ((result[-3] if len(result) > 2 else None, "head"), (inner, "head_dim"), (v[-1], "head_dim")):
        coupling.kind(axis, kind)
    coupling.carries_zero(node, value)
    scores = [*((node, dim) for dim in range(len(result) - 1)), (key, -2)]
    coupling.cost(*scores, (query, -1))
    coupling.cost(*scores, (value, -1))
    return result


def _share_heads(coupling: Coupling, node: Node) -> Axis:
    """Grouped queries: query head (kv head, member)."""
    query, key = argument(node, "query"), argument(node, "key")
    heads, shared = sizes(query)[-3], sizes(key)[-3]
    axis, kv = coupling.axes(query)[-3], coupling.axes(key)[-3]
    assert heads is not None
    assert shared is not None
    if axis is None or kv is None:
        coupling.freeze(axis, kv)
        return None
    coupling.unify(
        axis, coupling.atoms.grid(kv, coupling.atoms.fresh(heads // shared)) if heads > shared else np.array(kv)
    )
    return axis


def _mask(coupling: Coupling, result: Axes, key: Axes, mask: object) -> None:
    """A mask (..., L, S) aligns with the scores from the right; a size of 1 binds nothing."""
    if not isinstance(mask, Node):
        return
    scores = [*result[:-1], key[-2]]
    extents, axes = sizes(mask), coupling.axes(mask)
    for position in range(1, len(axes) + 1):
        if extents[-position] != 1:
            scores[-position] = coupling.unify(scores[-position], axes[-position])


@rewrite("scaled_dot_product_attention")
def pin_scale(edit: Edit, old: Node, new: Node) -> None:
    """The scale stays 1/sqrt of the trained head size."""
    size = sizes(argument(old, "query"))[-1]
    if argument(old, "scale") is None and size is not None:
        set_argument(new, "scale", size**-0.5)
