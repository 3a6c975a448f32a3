"""The fused attention operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.rules._base import Axes, argument, rewrite, rule, set_argument, sizes

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut


@rule("scaled_dot_product_attention")
def attention(analysis: Analysis, node: Node) -> Axes:
    """query (..., H, L, E), key (..., H, S, E), value (..., H, S, V): heads, E and V can each be cut."""
    query, key, value, mask = (argument(node, name) for name in ("query", "key", "value", "attn_mask"))
    q, k, v = list(analysis.axes(query)), list(analysis.axes(key)), list(analysis.axes(value))
    if argument(node, "enable_gqa"):
        q[-3] = _share_heads(analysis, node)
    result: Axes = []
    for dim, (a, b, c) in enumerate(zip(q[:-2], k[:-2], v[:-2], strict=True)):
        shared = analysis.unify(b, c)
        grouped = argument(node, "enable_gqa") and dim == len(q) - 3
        result.append(a if grouped else analysis.unify(a, shared))
    inner = analysis.unify(q[-1], k[-1])
    analysis.contracts(inner, query, key)
    analysis.mixes(analysis.unify(k[-2], v[-2]))
    result += [q[-2], v[-1]]
    _mask(analysis, result, k, mask)
    for axis, kind in ((result[-3] if len(result) > 2 else None, "head"), (inner, "head_dim"), (v[-1], "head_dim")):
        analysis.kind(axis, kind)
    if value in analysis.clean:
        analysis.clean.add(node)
    scores = [*((node, dim) for dim in range(len(result) - 1)), (key, -2)]
    analysis.cost(*scores, (query, -1))
    analysis.cost(*scores, (value, -1))
    return result


def _share_heads(analysis: Analysis, node: Node) -> Axis:
    """Grouped queries: query head (kv head, member)."""
    query, key = argument(node, "query"), argument(node, "key")
    heads, shared = sizes(query)[-3], sizes(key)[-3]
    axis, kv = analysis.axes(query)[-3], analysis.axes(key)[-3]
    assert heads is not None
    assert shared is not None
    if axis is None or kv is None:
        analysis.freeze(axis, kv)
        return None
    analysis.unify(
        axis, analysis.atoms.grid(kv, analysis.atoms.fresh(heads // shared)) if heads > shared else np.array(kv)
    )
    return axis


def _mask(analysis: Analysis, result: Axes, key: Axes, mask: object) -> None:
    """A mask (..., L, S) aligns with the scores from the right; a size of 1 binds nothing."""
    if not isinstance(mask, Node):
        return
    scores = [*result[:-1], key[-2]]
    extents, axes = sizes(mask), analysis.axes(mask)
    for position in range(1, len(axes) + 1):
        if extents[-position] != 1:
            scores[-position] = analysis.unify(scores[-position], axes[-position])


@rewrite("scaled_dot_product_attention")
def pin_scale(cut: Cut, old: Node, new: Node) -> None:
    """The scale stays 1/sqrt of the trained head size."""
    size = sizes(argument(old, "query"))[-1]
    if argument(old, "scale") is None and size is not None:
        set_argument(new, "scale", size**-0.5)
