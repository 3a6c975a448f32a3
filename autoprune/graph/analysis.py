"""Walks the graph once, rule by rule, and learns which indices of which tensors must be cut together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.utils import _pytree as pytree

from autoprune.graph.atoms import Axis
from autoprune.graph.coupling import Axes, Coupling, frozen_like
from autoprune.graph.nodes import is_pointwise, operator_name, sizes, sizes_at_batch_one
from autoprune.graph.rules import RULES, lookup
from autoprune.graph.rules.elementwise import pointwise


class Analysis(Coupling):
    """The coupling of a whole graph: call ``run`` once."""

    def run(self) -> None:
        payers: list[Node] = []
        for node in self.graph.nodes:
            self.values[node] = self._visit(node)
            payers += [node] * (len(self._cost_terms) - len(payers))
        for payer, term in zip(payers, self._cost_terms, strict=True):
            factors = [(self.axes(node)[dim], sizes_at_batch_one(node)[dim]) for node, dim in term]
            self.costs.append((payer, factors))
        found = {id(axis): (axis, node) for node, value in self.values.items() for axis in flat(value)}
        self.dimensions = [(axis, node) for axis, node in found.values() if axis is not None and len(axis)]

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
            axis for source in node.all_input_nodes for axis in flat(self.values.get(source)) if axis is not None
        ]
        self.freeze(*touched)
        return bool(touched)


def flat(value: Any) -> list[Axis]:
    """The axes of a value: of a tensor, or of all tensors of several."""
    if isinstance(value, list):
        return [axis for item in value for axis in flat(item)]
    return [value]


def _has_tensor(node: Node) -> bool:
    return any(isinstance(value, Tensor) for value in pytree.tree_leaves(node.meta.get("val")))
