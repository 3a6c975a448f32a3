"""Passes of cut models over the same inputs, begun where a model begins to differ from the dense one."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from autoprune.compress.interpret import Interpreter, graph_of, is_call
from autoprune.compress.layers import ATEN, CONVOLUTIONS
from autoprune.graph.net import batch_norm

NEW = (*CONVOLUTIONS, ATEN.linear, ATEN.add, ATEN.mul, ATEN.cat, batch_norm)  # no views of their inputs


class Passes:
    """What a model computes before its first difference from the dense one is what that one computes. Of the last place
    where a model began to differ the values are kept, and the next model that begins to differ there begins with them,
    as those do of which an error table is made.

    Args:
        dense: a captured model.
        inputs: of one pass.

    Attributes:
        seen: what was seen of the dense model in such a pass, kept for the next cut.
    """

    def __init__(self, dense: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.dense = dense
        self.inputs = inputs
        self.seen: dict[Hashable, Any] = {}
        self._values: dict[str, Any] = {}

    def run(self, run: Interpreter) -> Any:
        """The outputs of the model of ``run``; what stands in for a node differs."""
        same = alike(run.module, self.dense, run.instead) if _each_writes_on_its_own(run.graph) else {}
        edge = {node.name for node in same if not node.users.keys() <= same.keys()}
        if edge and edge <= self._values.keys():
            given = {node: _copied(self._values[node.name]) if node.name in edge else None for node in same}
            return run.run(*self.inputs, initial_env=given)
        run.keep = edge
        outputs = run.run(*self.inputs)
        self._values = run.kept
        return outputs


def alike(model: nn.Module, dense: nn.Module, instead: Collection[str]) -> dict[fx.Node, fx.Node]:
    """The operators of ``model`` that compute what one in ``dense`` does, from the same inputs on, each with that one.

    Not among them are those named in ``instead``.
    """
    twins = {node.name: node for node in graph_of(dense).nodes}
    same: dict[fx.Node, fx.Node] = {}
    for node in graph_of(model).nodes:
        twin = twins.get(node.name)
        if twin is None or node.name in instead or (node.op, node.target) != (twin.op, twin.target):
            continue
        if node.op == "get_attr":
            equal = _equal(node, model, dense)
        else:
            equal = node.op != "output" and _read(node, same) == (twin.args, twin.kwargs)
        if equal:
            same[node] = twin
    return {node: twin for node, twin in same.items() if node.op == "call_function"}


def _read(node: fx.Node, same: dict[fx.Node, fx.Node]) -> tuple[Any, Any]:
    """The arguments of a node, with what the dense graph has for each node that is alike."""
    return fx.node.map_arg((node.args, node.kwargs), lambda one: same.get(one, one))


def _equal(node: fx.Node, model: nn.Module, dense: nn.Module) -> bool:
    one, other = (reduce(getattr, str(node.target).split("."), owner) for owner in (model, dense))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and isinstance(one, bool) and one == other


def _each_writes_on_its_own(graph: fx.Graph) -> bool:
    """Whether operators that work in place do so on what is new and nothing else reads, so that kept values last."""
    writing = [node for node in graph.nodes if _writes(node)]
    written = [node.all_input_nodes[0] for node in writing]
    return all(len(node.users) == 1 and (_writes(node) or is_call(node, *NEW)) for node in written)


def _writes(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and bool(schema.is_mutable)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
