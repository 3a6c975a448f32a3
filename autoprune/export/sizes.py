"""The numbers that a captured graph has baked in, read so that two cuts of one model can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Interpreter, Node
from torch.utils._pytree import tree_leaves

Address = tuple[int, int]
"""Position of a node in its graph, and which of the node's numbers."""


class NotUnderstoodError(Exception):
    """A difference between two ONNX graphs that no number of the captured graphs explains; the message says which."""


@dataclass(frozen=True)
class Sizes:
    """A graph split into ``structure``, equal for all cuts that differ in sizes alone, and ``numbers``.

    The numbers of a node are those among its arguments, then the shapes of the weights that it reads, then, where the
    graph was run, the shapes of its results: a size that is -1 in the graph stands nowhere else.
    """

    structure: tuple[object, ...]
    numbers: dict[Address, int | float]


def read_sizes(module: nn.Module, inputs: tuple[Tensor, ...] | None = None) -> Sizes:
    """The structure and the numbers of a captured module, run on ``inputs`` if given. Raises NotUnderstoodError."""
    graph = graph_of(module)
    results = _Recorder(module, graph).record(inputs) if inputs is not None else {}
    positions = {node: position for position, node in enumerate(graph.nodes)}
    numbers: dict[Address, int | float] = {}
    structure = []
    for node, position in positions.items():
        found: list[int | float] = []
        arguments = _describe((node.args, node.kwargs), positions, found)
        tensors = [_describe_attribute(module, source, found) for source in _attributes(node)]
        found.extend(results.get(node, ()))
        structure.append((node.op, str(node.target), arguments, *tensors, len(found)))
        numbers |= {(position, index): number for index, number in enumerate(found)}
    return Sizes(tuple(structure), numbers)


def graph_of(module: nn.Module) -> Graph:
    """The graph that a captured module runs. Raises NotUnderstoodError for any other module."""
    graph = getattr(module, "graph", None)
    if not isinstance(graph, Graph):
        raise NotUnderstoodError(f"{type(module).__name__} is not a captured graph.")
    return graph


class _Recorder(Interpreter):
    """Runs a graph and notes the shapes of every node's results."""

    def __init__(self, module: nn.Module, graph: Graph) -> None:
        super().__init__(module, graph=graph)
        self._shapes: dict[Node, list[int]] = {}

    def record(self, inputs: tuple[Tensor, ...]) -> dict[Node, list[int]]:
        with torch.no_grad():
            self.run(*inputs)
        return self._shapes

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        self._shapes[n] = [size for value in tree_leaves(result) if isinstance(value, Tensor) for size in value.shape]
        return result


def fetch(module: nn.Module, name: str) -> Any:
    """The parameter, buffer, flag or submodule of that dotted name; raises AttributeError."""
    return reduce(getattr, name.split("."), module)


def _attributes(node: Node) -> list[Node]:
    return [source for source in node.all_input_nodes if source.op == "get_attr"]


def _describe_attribute(module: nn.Module, source: Node, found: list[int | float]) -> object:
    value = fetch(module, str(source.target))
    if not isinstance(value, Tensor):
        return repr(value)
    found.extend(value.shape)
    return value.dim(), str(value.dtype)


def _describe(value: Any, positions: dict[Node, int], found: list[int | float]) -> object:
    if isinstance(value, Node):
        return "node", positions[value]
    if isinstance(value, tuple | list):
        return tuple(_describe(item, positions, found) for item in value)
    if isinstance(value, dict):
        return tuple((name, _describe(item, positions, found)) for name, item in value.items())
    if isinstance(value, int | float) and not isinstance(value, bool):
        found.append(value)
        return type(value).__name__
    return repr(value)
