"""The numbers that a captured graph has baked in, read so that two cuts of one model can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph, Node

Address = tuple[int, int]
"""Position of a node in its graph, and which of the node's numbers."""


@dataclass(frozen=True)
class Sizes:
    """A graph split into ``structure``, equal for all cuts that differ in sizes alone, and ``numbers``.

    The numbers of a node are those among its arguments, then the shapes of the tensors that it reads.
    """

    structure: tuple[object, ...]
    numbers: dict[Address, int | float]


def read_sizes(module: nn.Module, graph: Graph) -> Sizes:
    """The structure and the numbers of ``graph``, whose ``get_attr`` nodes refer to ``module``."""
    positions = {node: position for position, node in enumerate(graph.nodes)}
    numbers: dict[Address, int | float] = {}
    structure = []
    for node, position in positions.items():
        found: list[int | float] = []
        arguments = _describe((node.args, node.kwargs), positions, found)
        tensors = [_describe_attribute(module, source, found) for source in _attributes(node)]
        structure.append((node.op, str(node.target), arguments, *tensors))
        numbers |= {(position, index): number for index, number in enumerate(found)}
    return Sizes(tuple(structure), numbers)


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
