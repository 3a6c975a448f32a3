"""Copies the graph with fewer indices: parameters by index_select, baked-in sizes by the rules' rewrites."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.fx import Node

from autoprune.errors import PruneError
from autoprune.graph.analysis import Analysis
from autoprune.graph.atoms import Axis
from autoprune.graph.capture import Captured
from autoprune.graph.constants import RESHAPES, plain
from autoprune.graph.dropping import Drop, channel_of
from autoprune.graph.edit import Edit, Mask
from autoprune.graph.net import GraphNet, constant
from autoprune.graph.nodes import argument, has_argument, operator_name, set_argument, sizes
from autoprune.graph.rules import REWRITES, lookup


class Cut(Edit):
    """One candidate: which atoms are alive, and the graph and tensors that follow from it."""

    def __init__(self, captured: Captured, analysis: Analysis, alive: Mask) -> None:
        self._drop = Drop(analysis, alive)
        super().__init__(analysis, alive, self._drop.narrow)
        self._captured = captured
        self._analysis = analysis
        self.constants.update(captured.constants)

    def build(self) -> GraphNet:
        """The smaller model. Raises PruneError where the model cannot do without a dimension that is left empty."""
        if self._drop.fault is not None:
            raise PruneError(self._drop.fault)
        state = self._state()
        copies: dict[Node, Node] = {}
        for old in self._captured.graph.nodes:
            if old in self._drop.readers and old not in self._drop.dead:
                copies[old] = self._constant(old, copies)
            elif old not in self._drop.dead:
                new = self.graph.node_copy(old, copies.__getitem__)
                new.meta = {}
                copies[old] = self._rewrite(old, new)
        self.graph.set_codegen(self._captured.graph._codegen)
        self.graph.eliminate_dead_code()
        used = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        constants = {name: value for name, value in self.constants.items() if name in used}
        return GraphNet(self.graph, state, constants, (self._captured.in_spec, self._captured.out_spec))

    def _constant(self, old: Node, copies: Mapping[Node, Node]) -> Node:
        """What a layer that reads nothing answers: its bias, or zeros."""
        weight, bias, channel = argument(old, "weight"), argument(old, "bias"), channel_of(old)
        shape = [1] * len(sizes(old))
        shape[channel] = self.size(old, channel)
        if bias is not None:
            value = copies[bias]
        else:
            name = f"_zeros_{len(self.constants)}"
            like = self._captured.state[str(weight.target)]
            self.constants[name] = torch.zeros(shape[channel], dtype=like.dtype, device=like.device)
            value = self.graph.create_node("get_attr", name)
        return self.graph.call_function(constant, (value, shape, str(weight.target)))

    def _rewrite(self, old: Node, new: Node) -> Node:
        if old.op == "call_function" and any(source in self.narrow for source in old.all_input_nodes):
            new.target = plain(old) or old.target
        function = lookup(REWRITES, old) if old.op == "call_function" else None
        if function is None:
            return new
        with self.graph.inserting_before(new):
            replacement = function(self, old, new)
        if old in self.narrow and operator_name(old) in RESHAPES:
            name = "size" if has_argument(old, "size") else "shape"
            listed = argument(new, name)
            set_argument(new, name, [1 if dim in self.narrow[old] else size for dim, size in enumerate(listed)])
        return new if replacement is None else replacement

    def _state(self) -> dict[str, Tensor]:
        made: dict[int, Tensor] = {}
        state = self._captured.state
        kept = {name: value for name, value in state.items() if name not in self._drop.tensors}
        return {name: made.setdefault(id(value), self._tensor(name, value)) for name, value in kept.items()}

    def _tensor(self, name: str, value: Tensor) -> Tensor:
        with torch.no_grad():
            kept = value.detach()
            for dim, axis in enumerate(self._analysis.parameter_axes(name)):
                if axis is not None and not self._alive[axis].all():
                    positions = torch.from_numpy(np.flatnonzero(self._alive[axis]))
                    kept = kept.index_select(dim, positions.to(value.device))
            kept = kept.clone() if kept.data_ptr() == value.data_ptr() else kept
        return nn.Parameter(kept, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else kept


def zeroed_state(analysis: Analysis, alive: Mask) -> dict[str, Tensor]:
    """The dense tensors with every parameter entry that a cut would remove set to zero."""
    made: dict[int, Tensor] = {}
    for name, value in analysis.state.items():
        if id(value) not in made:
            copy = value.detach().clone()
            if isinstance(value, nn.Parameter):
                for dim, axis in enumerate(analysis.parameter_axes(name)):
                    if axis is not None and not alive[axis].all():
                        copy.index_fill_(dim, torch.from_numpy(np.flatnonzero(~alive[axis])).to(copy.device), 0)
                copy = nn.Parameter(copy, requires_grad=value.requires_grad)
            made[id(value)] = copy
    return {name: made[id(value)] for name, value in analysis.state.items()}


def alive_atoms(leaves: npt.NDArray[np.int64], dead: Mapping[str, npt.NDArray[np.int64]]) -> Mask:
    """Which atoms are alive, from the (atoms, width) table of their keys and the dead keys."""
    keys = np.ones(len(leaves), dtype=bool)
    for removed in dead.values():
        keys[removed] = False
    return np.asarray(keys[leaves].all(axis=1))


def alive_count(axis: Axis, size: int, alive: Mask) -> int:
    return size if axis is None else int(alive[axis].sum()) * size // len(axis)
