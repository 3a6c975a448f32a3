"""What a rewrite may ask and do while the graph is copied: what is kept, how large it is, new nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Graph, Node

from autoprune.errors import PruneError
from autoprune.graph.coupling import Coupling
from autoprune.graph.net import batch_norm
from autoprune.graph.nodes import argument, module_path, sizes

Mask = npt.NDArray[np.bool_]


class Edit:
    """The copy in the making: ``graph`` and its ``constants``, given which atoms are alive.

    ``narrow`` are the nodes of the old graph that a drop has made the same for every sample, with their dimensions of
    size 1: statistics of a batch and random numbers have no place there.
    """

    def __init__(self, coupling: Coupling, alive: Mask, narrow: Mapping[Node, Collection[int]]) -> None:
        self.graph = Graph()
        self.constants: dict[str, Any] = {}
        self.coupling = coupling
        self.narrow = narrow
        self._alive = alive

    def alive(self, node: Any, dim: int) -> Mask | None:
        """(size,) which indices of a dimension are kept; None where all are."""
        axis = self.coupling.axes(node)[dim]
        return None if axis is None else self._alive[axis]

    def size(self, node: Any, dim: int) -> int:
        """Size of a static dimension after the cut."""
        alive, size = self.alive(node, dim), sizes(node)[dim]
        if alive is not None:
            return int(alive.sum())
        if size is None:
            raise PruneError(f"dimension {dim} of {node} has no fixed size. Report this as a bug.")
        return size

    def training_flag(self, old: Node) -> Node:
        """A node that reads the ``training`` flag of the module that ran ``old``."""
        path = module_path(old)
        return self.graph.create_node("get_attr", f"{path}.training" if path else "training")

    def train_statistics(self, old: Node, new: Node, mean: str) -> None:
        """Turn a frozen batch_norm into one that follows its module's ``training`` flag, but on a constant."""
        prefix = mean.rpartition(".")[0]
        counter = f"{prefix}.num_batches_tracked" if prefix else "num_batches_tracked"
        constant = old in self.narrow
        with self.graph.inserting_before(new):
            path = f"{prefix}.training" if prefix else "training"
            flag = False if constant else self.graph.create_node("get_attr", path)
            known = counter in self.coupling.state and not constant
            count = self.graph.create_node("get_attr", counter) if known else None
        names = ("input", "weight", "bias", "running_mean", "running_var")
        tensors = tuple(argument(new, name) for name in names)
        new.args = (*tensors, flag, argument(old, "momentum"), argument(old, "eps"), count)
        new.kwargs = {}
        new.target = batch_norm

    def index_select(self, new: Node, source: Any, dim: int, positions: npt.NDArray[np.int64]) -> Node:
        """A node that picks ``positions``, which becomes a constant of the new module."""
        name = f"_positions_{len(self.constants)}"
        self.constants[name] = torch.from_numpy(np.ascontiguousarray(positions))
        with self.graph.inserting_before(new):
            index = self.graph.create_node("get_attr", name)
            return self.graph.call_function(torch.ops.aten.index_select.default, (source, dim, index))
