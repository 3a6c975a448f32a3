"""Every group is cut and run before anyone relies on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.graph.groups import Proof, PruneGroup

if TYPE_CHECKING:
    from autoprune.graph.model import PrunableGraph

TOLERANCE = 1e-4


def half(group: PruneGroup) -> list[int]:
    """Half of the units, at least one, scattered: a block would hide a wrong index map."""
    order = np.random.default_rng(group.size).permutation(group.size)
    return sorted(order[: max(1, group.size // 2)].tolist())


def prove(graph: PrunableGraph, groups: Sequence[PruneGroup], state: Iterable[Tensor]) -> tuple[Proof, ...]:
    """One proof per group, each cut by itself."""
    with _uneven(state):
        return tuple(_try(graph, [group]) for group in groups)


def failures(graph: PrunableGraph, state: Iterable[Tensor]) -> list[Proof]:
    """The groups that cannot be cut, found by cutting all at once and bisecting on failure."""
    with _uneven(state):
        return _failures(graph)


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


def _failures(graph: PrunableGraph) -> list[Proof]:
    exact = [group for group in graph.groups if group.exact]
    bad = _bisect(graph, exact)
    known = {proof.group for proof in bad}
    rest = [group for group in graph.groups if group.id not in known]
    return bad if len(rest) == len(exact) - len(bad) else bad + _bisect(graph, rest)


def _bisect(graph: PrunableGraph, groups: Sequence[PruneGroup]) -> list[Proof]:
    if not groups:
        return []
    proof = _try(graph, groups)
    if proof.holds:
        return []
    if len(groups) == 1:
        return [proof]
    middle = len(groups) // 2
    return _bisect(graph, groups[:middle]) + _bisect(graph, groups[middle:])


def _try(graph: PrunableGraph, groups: Sequence[PruneGroup]) -> Proof:
    name = groups[0].id
    keep = {group.id: half(group) for group in groups}
    try:
        smaller = graph.cut(keep).eval()
        outputs = [_run(smaller, inputs) for inputs in _batches(graph)]
    except Exception as error:
        return Proof(name, None, f"the cut model does not run: {str(error).strip().splitlines()[0]}")
    expected = [[value.shape for value in _run(graph.module().eval(), inputs)] for inputs in _batches(graph)[:1]]
    if [value.shape for value in outputs[0]] != expected[0]:
        return Proof(name, None, "the cut model returns other shapes")
    if not all(group.exact for group in groups):
        return Proof(name, None, None)
    off = _deviation(outputs[0], _run(graph.zeroed(keep).eval(), graph.example_inputs))
    return Proof(name, off, None if off < TOLERANCE else f"the cut model deviates from the zeroed one by {off:.1e}")


def _batches(graph: PrunableGraph) -> list[tuple[Tensor, ...]]:
    inputs = graph.example_inputs
    if not graph.dynamic_batch:
        return [inputs]
    return [inputs, tuple(torch.cat([value, value[:1]]) if value.dim() else value for value in inputs)]


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Any]:
    with torch.no_grad():
        return [value for value in pytree.tree_leaves(module(*inputs)) if isinstance(value, Tensor)]


def _deviation(actual: list[Tensor], expected: list[Tensor]) -> float:
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if b.numel() and b.is_floating_point():
            scale = max(float(b.abs().max()), 1e-12)
            worst = max(worst, float((a - b).abs().max()) / scale)
    return worst
