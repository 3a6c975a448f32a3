"""Operators that make tensors out of sizes."""

from __future__ import annotations

from torch.fx import Node

from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule
from autoprune.graph.rules.reshape import renew

_UNIFORM = ("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty")


@rule(*_UNIFORM)
def uniform(coupling: Coupling, node: Node) -> Axes:
    """Every index is like the others, so that a dimension may be cut with whatever it meets."""
    if "zeros" in str(node.target):
        coupling.clean.add(node)
    return [coupling.atoms.fresh(size) if size is not None and size > 1 else None for size in sizes(node)]


@rewrite(*_UNIFORM)
def resize(edit: Edit, old: Node, new: Node) -> None:
    listed = argument(new, "size")
    set_argument(new, "size", [renew(edit, old, new, dim, size) for dim, size in enumerate(listed)])


@rule("arange", "linspace", "eye", "scalar_tensor", "rand", "randn", "tril_indices", "triu_indices")
def positions(coupling: Coupling, node: Node) -> Axes:
    """The value at an index depends on the index: nothing to edit."""
    return [None] * len(sizes(node))
