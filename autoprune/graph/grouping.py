"""From atoms to prune groups: keys that every tensor holds alike are interchangeable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt
from torch import nn

from autoprune.graph.analysis import Analysis
from autoprune.graph.groups import PruneGroup, Slice

Keys = npt.NDArray[np.int64]
Slot = tuple[str, int]

_STRONGEST_LAST = ("unit", "embedding", "neuron", "channel", "group", "hidden", "head_dim", "head")


def find_groups(analysis: Analysis, leaves: Keys) -> dict[PruneGroup, Keys]:
    """The prune groups in the order their first parameter is used, with the key of each unit."""
    positions = _positions(analysis, leaves)
    kinds, inexact = _kinds(analysis, leaves), _keys_of(analysis.inexact, leaves)
    terms = [term for _, term in analysis.costs]
    costs = [(_keys_of([axis for axis, _ in term], leaves), prod(size for _, size in term)) for term in terms]
    groups: dict[PruneGroup, Keys] = {}
    names: dict[str, int] = {}
    for keys in _classes(analysis, leaves, positions):
        slots = positions[keys[0]]
        if len(keys) > 1 and any(isinstance(analysis.state[name], nn.Parameter) for name, _ in slots):
            units = [positions[key] for key in keys]
            members = tuple(Slice(*slot, tuple(tuple(unit[slot]) for unit in units)) for slot in slots)
            macs = sum(count for touched, count in costs if not touched.isdisjoint(keys))
            kind, exact = kinds.get(keys[0], "unit"), inexact.isdisjoint(keys)
            group = PruneGroup(_name(analysis, slots, names), kind, len(keys), members, macs, exact)
            groups[group] = np.array(keys, dtype=np.int64)
    return groups


def _classes(analysis: Analysis, leaves: Keys, keys: Iterable[int]) -> Iterable[list[int]]:
    """Interchangeable keys: of one family, and every dimension of every tensor holds each of them equally often.

    What is left of a group then never leaves a dimension empty. Found by partition refinement.
    """
    label = np.array([analysis.atoms.family(key) for key in range(len(leaves))], dtype=np.int64)
    unused = len(leaves)
    for axis, _ in analysis.dimensions:
        held, counts = np.unique(leaves[axis], return_counts=True)
        _, refined = np.unique(label[held] * (counts.max() + 1) + counts, return_inverse=True)
        label[held] = refined + unused
        unused += len(held)
    classes: dict[int, list[int]] = defaultdict(list)
    for key in keys:
        classes[int(label[key])].append(key)
    return classes.values()


def _positions(analysis: Analysis, leaves: Keys) -> dict[int, dict[Slot, list[int]]]:
    """Key -> (tensor name, dimension) -> positions, tensors in the order of their use."""
    found: dict[int, dict[Slot, list[int]]] = defaultdict(dict)
    for name in _in_order_of_use(analysis):
        for dim, axis in enumerate(analysis.parameter_axes(name)):
            if axis is None:
                continue
            for index, row in enumerate(leaves[axis].tolist()):
                for key in row:
                    if key:
                        found[key].setdefault((name, dim), []).append(index)
    return found


def _in_order_of_use(analysis: Analysis) -> list[str]:
    """One name per tensor: the first that the user's model has for it."""
    rank = {node: position for position, node in enumerate(analysis.graph.nodes)}
    used: dict[str, int] = {}
    for node in analysis.graph.nodes:
        if node.op == "get_attr" and str(node.target) in analysis.state and node.users:
            used[str(node.target)] = min(rank[user] for user in node.users)
    first = {id(value): name for name, value in reversed(analysis.state.items())}
    return list(dict.fromkeys(first[id(analysis.state[name])] for name in sorted(used, key=used.__getitem__)))


def _kinds(analysis: Analysis, leaves: Keys) -> dict[int, str]:
    kinds: dict[int, str] = {}
    for axis, kind in analysis.kinds:
        for key in _keys_of([axis], leaves):
            kinds[key] = max(kind, kinds.get(key, "unit"), key=_STRONGEST_LAST.index)
    return kinds


def _keys_of(axes: list[npt.NDArray[np.int64] | None], leaves: Keys) -> set[int]:
    return {key for axis in axes if axis is not None for key in np.unique(leaves[axis]).tolist() if key}


def _name(analysis: Analysis, slots: dict[Slot, list[int]], taken: dict[str, int]) -> str:
    """Path of the first module that uses the units: it produces them."""
    path = next(name for name, _ in slots if isinstance(analysis.state[name], nn.Parameter))
    path = path.rpartition(".")[0] or path
    taken[path] = taken.get(path, 0) + 1
    return path if taken[path] == 1 else f"{path}#{taken[path]}"
