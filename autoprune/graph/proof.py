"""Every group is cut and run before anyone relies on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.graph.groups import Proof, PruneGroup

if TYPE_CHECKING:
    from autoprune.graph.model import PrunableGraph

TOLERANCE = 1e-4


def half(group: PruneGroup) -> list[int]:
    """Half of the units, at least one, scattered: a block would hide a wrong index map, equal choices a missed pair."""
    return _some(group, max(1, group.size // 2))


def prove(graph: PrunableGraph, groups: Sequence[PruneGroup], state: Iterable[Tensor]) -> tuple[Proof, ...]:
    """One proof per group, each cut by itself; of a droppable one the worse of the proofs of its cut and its drop."""
    with _uneven(state):
        bench = _Bench(graph)
        cuts = [bench.prove([group]) for group in groups]
        drops = [bench.prove_drop([group]) if group.droppable else cut for group, cut in zip(groups, cuts, strict=True)]
        return tuple(max(pair, key=_badness) for pair in zip(cuts, drops, strict=True))


def _badness(proof: Proof) -> tuple[bool, float]:
    return not proof.holds, proof.error or 0.0


def failures(graph: PrunableGraph, state: Iterable[Tensor]) -> list[Proof]:
    """The groups to give up so that the others can be cut, alone and together.

    All are cut at once; on failure halves are added to what is known to hold, so that a group which fails only beside
    another one is found too. Exact groups come first: beside inexact ones their values cannot be compared.
    """
    with _uneven(state):
        bench = _Bench(graph)
        exact = [group for group in graph.groups if group.exact]
        held, failed = _extend(bench.prove, [], exact)
        _, also = _extend(bench.prove, held, [group for group in graph.groups if not group.exact])
        return failed + also


def undroppable(graph: PrunableGraph, state: Iterable[Tensor]) -> list[Proof]:
    """Of the droppable groups, those that must not be dropped so that the others can be, alone and together.

    A group inside a branch that another one drops shows nothing beside it, and is proven without it.
    """
    with _uneven(state):
        bench = _Bench(graph)
        failed, rest = list[Proof](), [group for group in graph.groups if group.droppable]
        while rest:
            failed += _extend(bench.prove_drop, [], rest)[1]
            rest = graph.hidden_drops(rest)
        return failed


def _extend(
    prove: Callable[[Sequence[PruneGroup]], Proof], held: list[PruneGroup], more: list[PruneGroup]
) -> tuple[list[PruneGroup], list[Proof]]:
    """``held``, which is proven, and of ``more`` as much as holds beside it; then the proofs that failed."""
    if not more:
        return held, []
    proof = prove([*more, *held])
    if proof.holds:
        return [*held, *more], []
    if len(more) == 1:
        return held, [proof]
    middle = len(more) // 2
    held, failed = _extend(prove, held, more[:middle])
    held, also = _extend(prove, held, more[middle:])
    return held, failed + also


class _Bench:
    """Cuts groups together and compares: half of each at one batch size, then random counts at another."""

    def __init__(self, graph: PrunableGraph) -> None:
        self._graph = graph
        dense = graph.module().eval()
        self._dense = [(inputs, _run(dense, inputs)) for inputs in _batches(graph)]

    def prove(self, groups: Sequence[PruneGroup]) -> Proof:
        """The proof of the first of ``groups``, cut beside the others."""
        return self._compare(groups[0].id, _selections(groups), exact=all(group.exact for group in groups))

    def prove_drop(self, groups: Sequence[PruneGroup]) -> Proof:
        """The proof of the first of ``groups``, dropped beside the others; then halves of what is left are cut too.

        Always exact: the weights that read the group are zeroed, so that it does not matter what they are given.
        """
        gone: dict[str, list[int]] = {group.id: [] for group in groups}
        halves = {group.id: half(group) for group in self._graph.groups if group.exact}
        return self._compare(groups[0].id, [gone, halves | gone], exact=True)

    def _compare(self, name: str, selections: Sequence[Mapping[str, list[int]]], *, exact: bool) -> Proof:
        worst = 0.0
        for keep, (inputs, dense) in zip(selections, self._dense, strict=True):
            try:
                outputs = _run(self._graph.cut(keep).eval(), inputs)
            except Exception as error:
                return Proof(name, None, f"the cut model does not run: {str(error).strip().splitlines()[0]}")
            if [value.shape for value in outputs] != [value.shape for value in dense]:
                return Proof(name, None, "the cut model returns other shapes")
            if _finite(dense) and not _finite(outputs):
                return Proof(name, None, "the cut model returns values that are not finite")
            if exact:
                worst = max(worst, _deviation(outputs, _run(self._graph.zeroed(keep).eval(), inputs)))
        if not exact:
            return Proof(name, None, None)
        return Proof(name, worst, None if worst < TOLERANCE else f"it deviates from the zeroed model by {worst:.1e}")


def _selections(groups: Sequence[PruneGroup]) -> list[dict[str, list[int]]]:
    counts = {group.id: int(_chance(group).integers(1, group.size + 1)) for group in groups}
    return [
        {group.id: half(group) for group in groups},
        {group.id: _some(group, counts[group.id]) for group in groups},
    ]


def _some(group: PruneGroup, count: int) -> list[int]:
    return sorted(_chance(group).permutation(group.size)[:count].tolist())


def _chance(group: PruneGroup) -> np.random.Generator:
    return np.random.default_rng(crc32(group.id.encode()))


@contextlib.contextmanager
def _uneven(state: Iterable[Tensor]) -> Iterator[None]:
    """Noise on constant tensors meanwhile: fresh BatchNorms and zero-initialised branches would hide a wrong index."""
    generator = torch.Generator().manual_seed(0)
    saved = []
    with torch.no_grad():
        for value in {id(value): value for value in state}.values():
            if value.is_floating_point() and value.numel() > 1 and bool(value.min() == value.max()):
                saved.append((value, value.clone()))
                value.add_(0.1 * torch.randn(value.shape, generator=generator).to(value))
        try:
            yield
        finally:
            for value, original in saved:
                value.copy_(original)


def _batches(graph: PrunableGraph) -> list[tuple[Tensor, ...]]:
    inputs = graph.example_inputs
    if not graph.dynamic_batch:
        return [inputs, inputs]
    return [inputs, tuple(torch.cat([value, value[:1]]) if value.dim() else value for value in inputs)]


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        return [value for value in pytree.tree_leaves(module(*inputs)) if isinstance(value, Tensor)]


def _finite(values: list[Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in values)


def _deviation(actual: list[Tensor], expected: list[Tensor]) -> float:
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if b.numel() and b.is_floating_point():
            scale = max(float(b.abs().max()), 1e-12)
            worst = max(worst, float((a - b).abs().max()) / scale)
    return worst
