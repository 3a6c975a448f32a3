"""What the rules say about a graph: which indices of which tensors must be cut together, and what that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.fx import Graph, Node

from autoprune.graph.atoms import Atoms, Axis
from autoprune.graph.groups import Blocked
from autoprune.graph.nodes import operator_name, where

Axes: TypeAlias = list[Axis]
"""One ``Axis`` per dimension of a tensor."""


class Coupling:
    """The atoms of every value in the graph, and what the rules said about them.

    ``clean`` holds the nodes whose values at removed indices are zero once the removed units' parameters are zeroed:
    there a sum over the dimension equals the sum over what is kept. ``costs`` are products of sizes at batch 1, each
    with the node that pays it. ``dimensions`` are all distinct axes, each with a node that has it.
    """

    def __init__(self, graph: Graph, state: dict[str, Tensor], constants: Mapping[str, object]) -> None:
        self.graph = graph
        self.state = state
        self.constants = constants
        self.atoms = Atoms()
        self.values: dict[Node, Any] = {}
        self.clean: set[Node] = set()
        self.blocked: list[Blocked] = []
        self.costs: list[tuple[Node, list[tuple[Axis, int]]]] = []
        self._cost_terms: list[tuple[tuple[Any, int], ...]] = []
        self.inexact: list[Axis] = []
        self.kinds: list[tuple[Axis, str]] = []
        self.dimensions: list[tuple[npt.NDArray[np.int64], Node]] = []
        self._tensors: dict[int, Axes] = {}

    def axes(self, node: Any) -> Axes:
        """Atoms of a tensor-valued argument; an empty list for a number."""
        value = self.values.get(node) if isinstance(node, Node) else None
        return value if value is not None else []

    def parameter_axes(self, name: str) -> Axes:
        """Atoms of a parameter or buffer; what the graph does not use is never cut."""
        tensor = self.state[name]
        return self._tensors.get(id(tensor), [None] * tensor.dim())

    def unify(self, left: Axis, right: Axis) -> Axis:
        """Couple two dimensions; returns the one to carry on with."""
        self.atoms.unify(left, right)
        return None if right is None else left

    def freeze(self, *axes: Axis) -> None:
        for axis in axes:
            self.atoms.freeze(axis)

    def mixes(self, axis: Axis) -> None:
        """The operator's result depends on all indices of this dimension: removing one changes the arithmetic."""
        if axis is not None:
            self.inexact.append(axis)

    def contracts(self, axis: Axis, *operands: Any) -> None:
        """The operator sums over this dimension: exact when one operand is zero at every removed index."""
        if not any(operand in self.clean for operand in operands):
            self.mixes(axis)

    def carries_zero(self, node: Node, *sources: Any) -> None:
        """The operator only moves values: its result is clean where its sources are."""
        if all(source in self.clean for source in sources):
            self.clean.add(node)

    def kind(self, axis: Axis, kind: str) -> None:
        if axis is not None:
            self.kinds.append((axis, kind))

    def cost(self, *dimensions: tuple[Any, int]) -> None:
        """An operator's multiply-accumulates are the product of these (node, dimension) at batch 1."""
        self._cost_terms.append(dimensions)

    def block(self, node: Node, reason: str) -> None:
        self.blocked.append(Blocked(operator_name(node), node.name, where(node), reason))


def frozen_like(value: Any) -> Any:
    """Axes of which nothing can be cut, for a tensor or several."""
    if isinstance(value, Tensor):
        return [None] * value.dim()
    return [frozen_like(item) for item in value] if isinstance(value, list | tuple) else None
