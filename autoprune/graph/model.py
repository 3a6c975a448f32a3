"""The model as its exported graph: what can be cut, and the cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from autoprune.errors import PruneError
from autoprune.graph import proof
from autoprune.graph.analysis import Analysis
from autoprune.graph.atoms import Axis
from autoprune.graph.capture import Captured, capture
from autoprune.graph.cutting import Cut, alive_atoms, alive_count, zeroed_state
from autoprune.graph.dropping import Drop, droppable
from autoprune.graph.grouping import find_groups
from autoprune.graph.groups import Blocked, Proof, PruneGroup
from autoprune.graph.net import GraphNet
from autoprune.graph.products import Affine, Products

Keep = Mapping[str, Sequence[int]]


class PrunableGraph:
    """A captured model and its prune groups. Build it with :meth:`capture`.

    The coupling is analysed once (after DepGraph, Fang et al. 2023, at the level of ATen operators); every candidate is
    then an index_select of parameters and a renewal of constants.
    """

    def __init__(self, captured: Captured) -> None:
        self._captured = captured
        self._analysis = Analysis(captured.graph, captured.state, captured.constants)
        self._analysis.run()
        self._leaves = self._analysis.atoms.leaf_table()
        self._keys = {group.id: (group, keys) for group, keys in find_groups(self._analysis, self._leaves).items()}
        masks = {name: alive_atoms(self._leaves, {name: keys}) for name, (_, keys) in self._keys.items()}
        for name in droppable(self._analysis, masks):
            self._set_droppable(name, True)

    @classmethod
    def capture(cls, module: nn.Module, example_inputs: tuple[Tensor, ...], *, prove: bool = True) -> PrunableGraph:
        """Export ``module`` (in evaluation mode), find its groups, and give up those whose cut fails.

        Raises CaptureError when torch.export refuses the model.
        """
        graph = cls(capture(module, example_inputs))
        if prove:
            for failed in proof.failures(graph, graph._captured.state.values()):
                graph._drop(failed)
            for failed in proof.undroppable(graph, graph._captured.state.values()):
                graph._set_droppable(failed.group, False)
        return graph

    @property
    def groups(self) -> tuple[PruneGroup, ...]:
        return tuple(group for group, _ in self._keys.values())

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        return tuple(self._analysis.blocked)

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        return self._captured.example_inputs

    @property
    def dynamic_batch(self) -> bool:
        return self._captured.dynamic_batch

    def module(self) -> nn.Module:
        """A fresh trainable copy of the dense model."""
        return self.cut({})

    def cut(self, keep: Keep) -> nn.Module:
        """A fresh trainable model with only the kept units; a group that is absent keeps all.

        ``keep``: group id -> unit indices, none of them to drop a group that is droppable. Raises PruneError for an
        unknown group, an empty selection of any other group, an index out of range.
        """
        return Cut(self._captured, self._analysis, self._alive(keep)).build()

    def zeroed(self, keep: Keep) -> nn.Module:
        """The dense model with the removed units' parameters zeroed: computes what the cut computes, where exact."""
        captured = self._captured
        dense = Cut(captured, self._analysis, self._alive({}))
        return _load(dense.build(), zeroed_state(self._analysis, self._alive(keep)))

    def macs(self, keep: Keep | None = None) -> int:
        """Multiply-accumulates of a candidate at batch 1, from sizes alone."""
        alive = self._alive(keep or {})
        drop = Drop(self._analysis, alive)
        costs = [factors for node, factors in self._analysis.costs if node not in drop.dead | drop.readers]
        return sum(prod(alive_count(axis, size, alive) for axis, size in factors) for factors in costs)

    def parameters(self, keep: Keep | None = None) -> int:
        """Parameters of a candidate, from sizes alone."""
        alive = self._alive(keep or {})
        named = {id(value): name for name, value in self._captured.state.items() if isinstance(value, nn.Parameter)}
        gone = Drop(self._analysis, alive).tensors
        return sum(self._elements(name, alive) for name in named.values() if name not in gone)

    def macs_by_units(self) -> Products:
        """Multiply-accumulates at batch 1 for many candidates at once, from the units that each of `groups` keeps.

        As `macs`, but that what only a dropped branch reads is paid for all the same.
        """
        return self._products([term for _, term in self._analysis.costs])

    def parameters_by_units(self) -> Products:
        """The same of parameters."""
        state = self._captured.state
        named = {id(value): name for name, value in state.items() if isinstance(value, nn.Parameter)}
        axes = [zip(self._analysis.parameter_axes(name), state[name].shape, strict=True) for name in named.values()]
        return self._products([list(term) for term in axes])

    def _products(self, terms: Sequence[Sequence[tuple[Axis, int]]]) -> Products:
        less = np.array([self._less(*([group] if group.size > 1 else [])) for group in self.groups])
        known: dict[tuple[int, int], list[Affine]] = {}
        for axis, size in (width for term in terms for width in term):
            if (id(axis), size) not in known:
                known[id(axis), size] = self._widths(axis, size, less)
        return Products.of(
            [[one for axis, n in term for one in known[id(axis), n]] for term in terms], len(self.groups)
        )

    def _widths(self, axis: Axis, size: int, less: npt.NDArray[np.bool_]) -> list[Affine]:
        """An axis as a width, or as a product of widths where its groups multiply, as heads and their dimensions do.

        ``less``: which atoms are alive when each group by itself loses a unit, (groups, atoms).
        """
        nothing = [0.0] * len(self.groups)
        if axis is None:
            return [(float(size), tuple(nothing))]
        whole, slopes = alive_count(axis, size, self._less()), nothing.copy()
        for n in np.flatnonzero(~less[:, axis].all(axis=1)):
            slopes[n] = float(whole - alive_count(axis, size, less[n]))
        cut = [group for group, slope in zip(self.groups, slopes, strict=True) if slope]
        if alive_count(axis, size, self._less(*cut)) == whole - sum(slopes):
            taken = sum(slope * group.size for slope, group in zip(slopes, self.groups, strict=True))
            return [(whole - taken, tuple(slopes))]
        shares = [(0.0, tuple(1 / group.size if group is one else 0.0 for group in self.groups)) for one in cut]
        return [(float(whole), tuple(nothing)), *shares]

    def _less(self, *groups: PruneGroup) -> npt.NDArray[np.bool_]:
        """Which atoms are alive when these groups lose their first unit."""
        return self._alive({group.id: range(1, group.size) for group in groups})

    def prove(self) -> tuple[Proof, ...]:
        """Cut half of every group by itself, drop those that are droppable, and run it at two batch sizes.

        Compared with the zeroed model where exact; a drop is.
        """
        return proof.prove(self, self.groups, self._captured.state.values())

    def hidden_drops(self, groups: Sequence[PruneGroup]) -> list[PruneGroup]:
        """Of these droppable groups, those whose drop shows nowhere when all of them are dropped."""
        together = Drop(self._analysis, self._alive({group.id: () for group in groups}))
        alone = [(group, Drop(self._analysis, self._alive({group.id: ()}))) for group in groups]
        return [group for group, drop in alone if not drop.readers - together.dead]

    def _elements(self, name: str, alive: npt.NDArray[np.bool_]) -> int:
        axes, shape = self._analysis.parameter_axes(name), self._captured.state[name].shape
        return prod(alive_count(axis, size, alive) for axis, size in zip(axes, shape, strict=True))

    def _alive(self, keep: Keep) -> npt.NDArray[np.bool_]:
        return alive_atoms(self._leaves, {name: self._dead(name, kept) for name, kept in keep.items()})

    def _dead(self, name: str, kept: Sequence[int]) -> npt.NDArray[np.int64]:
        if name not in self._keys:
            known = ", ".join(list(self._keys)[:5]) or "none"
            raise PruneError(f"there is no prune group {name!r}. The first groups of this model: {known}.")
        group, keys = self._keys[name]
        units = np.asarray(kept, dtype=np.int64)
        if len(units) == 0:
            if not group.droppable:
                reason = f"at least one of its {group.size} units must stay"
                raise PruneError(f"the selection for {name!r} is empty, and it cannot be dropped: {reason}.")
            return keys
        if units.min() < 0 or units.max() >= group.size:
            raise PruneError(f"group {name!r} has units 0 to {group.size - 1}, not {units.min()} to {units.max()}.")
        return np.delete(keys, units)

    def _set_droppable(self, name: str, value: bool) -> None:
        group, keys = self._keys[name]
        self._keys[name] = replace(group, droppable=value), keys

    def _drop(self, failed: Proof) -> None:
        del self._keys[failed.group]
        self._analysis.blocked.append(Blocked("cut", failed.group, failed.group, failed.failure or ""))


def _load(net: GraphNet, state: Mapping[str, Tensor]) -> GraphNet:
    net.load_state_dict(state, strict=False)
    return net
