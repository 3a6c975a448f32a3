"""Walks the graph once, rule by rule, and learns which indices of which tensors must be cut together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from autoprune.graph.atoms import Atoms, Axis
from autoprune.graph.groups import Blocked
from autoprune.graph.rules import RULES, Axes, is_pointwise, lookup, numbers, operator_name, sizes, sizes_at_batch_one
from autoprune.graph.rules.elementwise import pointwise


class Analysis:
    """The atoms of every value in the graph, and what the rules said about them.

    ``clean`` holds the nodes whose values at removed indices are zero once the removed units' parameters are zeroed:
    there a sum over the dimension equals the sum over what is kept. ``dimensions`` are all distinct axes, each with a
    node that has it.
    """

    def __init__(self, graph: Graph, state: dict[str, Tensor]) -> None:
        self.graph = graph
        self.state = state
        self.atoms = Atoms()
        self.values: dict[Node, Any] = {}
        self.clean: set[Node] = set()
        self.blocked: list[Blocked] = []
        self.costs: list[list[tuple[Axis, int]]] = []
        self._cost_terms: list[tuple[tuple[Any, int], ...]] = []
        self.inexact: list[Axis] = []
        self.kinds: list[tuple[Axis, str]] = []
        self.dimensions: list[tuple[npt.NDArray[np.int64], Node]] = []
        self._tensors: dict[int, Axes] = {}

    def run(self) -> None:
        for node in self.graph.nodes:
            self.values[node] = self._visit(node)
        for term in self._cost_terms:
            self.costs.append([(self.axes(node)[dim], sizes_at_batch_one(node)[dim]) for node, dim in term])
        found = {id(axis): (axis, node) for node, value in self.values.items() for axis in _flat(value)}
        self.dimensions = [(axis, node) for axis, node in found.values() if axis is not None and len(axis)]

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

    def kind(self, axis: Axis, kind: str) -> None:
        if axis is not None:
            self.kinds.append((axis, kind))

    def cost(self, *dimensions: tuple[Any, int]) -> None:
        """An operator's multiply-accumulates are the product of these (node, dimension) at batch 1."""
        self._cost_terms.append(dimensions)

    def block(self, node: Node, reason: str) -> None:
        self.blocked.append(Blocked(operator_name(node), node.name, where(node), reason))

    def _visit(self, node: Node) -> Any:
        if node.op == "placeholder":
            return [None] * len(sizes(node))
        if node.op == "get_attr":
            return self._attribute(node)
        if node.op == "output":
            self._freeze_all(node)
            return None
        name = operator_name(node)
        if name == "getitem" and isinstance(node.args[0], Node):
            return self._item(node)
        if not isinstance(node.target, OpOverload) and not _has_tensor(node):
            return None  # arithmetic on sizes
        found = lookup(RULES, node)
        if found is None and is_pointwise(node):
            found = pointwise
        return self._unknown(node) if found is None else found(self, node)

    def _attribute(self, node: Node) -> Axes | None:
        if str(node.target) not in self.state:
            return None
        tensor = self.state[str(node.target)]
        if isinstance(tensor, torch.nn.Parameter):
            self.clean.add(node)
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = [self.atoms.fresh(size) if size > 1 else None for size in tensor.shape]
        return self._tensors[id(tensor)]

    def _item(self, node: Node) -> Any:
        source, index = node.args
        if source in self.clean:
            self.clean.add(node)
        value = self.values.get(source)  # type: ignore[arg-type]
        return value[index] if value is not None else None

    def _unknown(self, node: Node) -> Any:
        if self._freeze_all(node):
            self.block(node, "no rule for this operator, so that nothing it touches can be cut")
        return frozen_like(node.meta.get("val"))

    def _freeze_all(self, node: Node) -> bool:
        touched = [
            axis for source in node.all_input_nodes for axis in _flat(self.values.get(source)) if axis is not None
        ]
        self.freeze(*touched)
        return bool(touched)


def frozen_like(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [None] * value.dim()
    return [frozen_like(item) for item in value] if isinstance(value, list | tuple) else None


def _flat(value: Any) -> list[Axis]:
    if isinstance(value, list):
        return [axis for item in value for axis in _flat(item)]
    return [value]


def _has_tensor(node: Node) -> bool:
    return any(isinstance(value, Tensor) for value in pytree.tree_leaves(node.meta.get("val")))


def module_path(node: Node) -> str:
    """Path of the user's module that ran this operator."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).split("@")[0] if stack else ""


def where(node: Node) -> str:
    """Module path and last source line, for messages."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").strip().splitlines()]
    return " | ".join(part for part in (module_path(node), lines[-1] if lines else "") if part)


__all__ = ["Analysis", "frozen_like", "module_path", "numbers", "where"]
