"""Operators that make tensors out of sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.fx import Node

from autoprune.graph.rules._base import Axes, argument, rewrite, rule, set_argument, sizes
from autoprune.graph.rules.shape import renew

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut

_UNIFORM = ("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty")


@rule(*_UNIFORM)
def uniform(analysis: Analysis, node: Node) -> Axes:
    """Every index is like the others, so that a dimension may be cut with whatever it meets."""
    if "zeros" in str(node.target):
        analysis.clean.add(node)
    return [analysis.atoms.fresh(size) if size is not None and size > 1 else None for size in sizes(node)]


@rewrite(*_UNIFORM)
def resize(cut: Cut, old: Node, new: Node) -> None:
    listed = argument(new, "size")
    set_argument(new, "size", [renew(cut, old, new, dim, size) for dim, size in enumerate(listed)])


@rule("arange", "linspace", "eye", "scalar_tensor", "rand", "randn", "tril_indices", "triu_indices")
def positions(analysis: Analysis, node: Node) -> Axes:
    """The value at an index depends on the index: nothing to cut."""
    return [None] * len(sizes(node))
