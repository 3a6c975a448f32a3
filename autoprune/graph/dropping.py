"""Groups of which nothing is kept: what their readers become, and what nothing needs any more."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch._ops import OpOverload
from torch.fx import Node

from autoprune.graph.analysis import Analysis, flat
from autoprune.graph.constants import Dims, is_elementwise, narrow_dims, plain
from autoprune.graph.nodes import argument, operator_name, positional, sizes, tensor_of, where

Mask = npt.NDArray[np.bool_]

_LAYERS = ("conv1d", "conv2d", "conv3d", "linear")


class Drop:
    """What a cut that leaves dimensions empty makes of the graph.

    A layer that reads an empty input is replaced by its bias, or zeros; what only fed it is dead. When in doubt, the
    drop is refused.

    Attributes:
        readers: layers that read an empty input.
        narrow: values that are the same for every sample, the readers' among them, and their narrow dimensions.
        dead: nodes that the outputs do not need.
        fault: why this cut is impossible, as a sentence; None when it is not.
    """

    def __init__(self, analysis: Analysis, alive: Mask) -> None:
        self._analysis = analysis
        self.readers: set[Node] = set()
        self.narrow: dict[Node, Dims] = {}
        self.dead: set[Node] = set()
        self.fault: str | None = None
        gone = {id(axis) for axis, _ in analysis.dimensions if not alive[axis].any()}
        if gone:
            values = analysis.values.items()
            self._follow({node for node, value in values if any(id(axis) in gone for axis in flat(value))})

    @cached_property
    def tensors(self) -> set[str]:
        """Parameters and buffers that nothing needs any more; all of a module's when it runs no operator."""
        state = self._analysis.state
        reads = [n for n in self._analysis.graph.nodes if n.op == "get_attr" and str(n.target) in state]
        live, dead = ({id(state[str(n.target)]) for n in reads if (n in self.dead) is gone} for gone in (False, True))
        used, left = ({_owner(name) for name, value in state.items() if id(value) in ids} for ids in (live, dead))
        unused = left - used
        return {
            name
            for name, value in state.items()
            if id(value) not in live and (id(value) in dead or _owner(name) in unused)
        }

    def _follow(self, empty: set[Node]) -> None:
        possible, data = True, set[Node]()
        for node in self._analysis.graph.nodes:
            if node in empty:
                continue
            sources = node.all_input_nodes
            if _is_reader(node, empty):
                self.readers.add(node)
                self.narrow[node] = _all_but_channel(node)
            elif any(source in self.narrow for source in sources):
                possible = possible and self._pass_on(node, data)
            if node not in self.narrow and (node.op == "placeholder" or any(source in data for source in sources)):
                data.update([node] if tensor_of(node) is not None else [])
        self.dead = self._dead()
        if not possible or empty - self.dead:
            nodes = [n for n in self._analysis.graph.nodes if n in empty]
            node = next((n for n in nodes if n.op != "get_attr"), nodes[0])
            place = where(node) or "the forward pass"
            self.fault = f"the cut leaves a dimension of {node.name!r} empty ({place}). Keep more units."

    def _pass_on(self, node: Node, data: set[Node]) -> bool:
        """Note what a constant makes of ``node``; False where the shapes would be wrong."""
        overwrites = _is_in_place(node) and positional(node) in self.narrow
        if overwrites and (plain(node) is None or len(positional(node).users) > 1):
            return False
        dims = narrow_dims(node, self.narrow)
        if dims is None:
            return False
        varies = is_elementwise(node) and any(s in data and s not in self.narrow for s in node.all_input_nodes)
        if dims or not varies:
            self.narrow[node] = dims
        return True

    def _dead(self) -> set[Node]:
        nodes = list(self._analysis.graph.nodes)
        live: set[Node] = set()
        found = [n for n in nodes if n.op in ("placeholder", "output") or (_is_in_place(n) and not n.users)]
        while found:
            node = found.pop()
            if node in live:
                continue
            live.add(node)
            found += [user for user in node.users if _is_in_place(user) and positional(user) is node]
            needed = node.all_input_nodes
            if node in self.readers:
                needed = [source for source in needed if source is argument(node, "bias")]
            found += needed
        return set(nodes) - live


def droppable(analysis: Analysis, alive: Mapping[str, Mask]) -> list[str]:
    """Of the groups without which these atoms are alive: those that can be dropped, alone and in any combination."""
    alone = {name: Drop(analysis, mask) for name, mask in alive.items()}
    names = [name for name, drop in alone.items() if drop.readers and drop.fault is None]
    if not names:
        return []
    if Drop(analysis, np.logical_and.reduce([alive[name] for name in names])).fault is None:
        return names
    held: list[str] = []
    for name in names:
        together = np.logical_and.reduce([alive[other] for other in [*held, name]])
        held += [name] if Drop(analysis, together).fault is None else []
    return held


def _is_reader(node: Node, empty: set[Node]) -> bool:
    """A layer with weights of its own (and one group) whose input is empty, while its output is not."""
    if node.op != "call_function" or operator_name(node) not in _LAYERS or positional(node) not in empty:
        return False
    weight, bias = argument(node, "weight"), argument(node, "bias")
    grouped = operator_name(node) != "linear" and argument(node, "groups") != 1
    return not grouped and weight in empty and all(n is None or n.op == "get_attr" for n in (weight, bias))


def _all_but_channel(node: Node) -> Dims:
    return frozenset(dim for dim, size in enumerate(sizes(node)) if dim != channel_of(node) and size != 1)


def channel_of(reader: Node) -> int:
    """The dimension of a layer's result that its bias lies along."""
    return len(sizes(reader)) - len(sizes(argument(reader, "weight"))) + 1


def _is_in_place(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
