"""Recipe -> smaller model: rank, cut, recover, in this order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from autoprune.compress.criteria import criterion
from autoprune.compress.recover import Reference, recovery
from autoprune.compress.silence import cut
from autoprune.errors import PruneError, StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.passes import Passes
    from autoprune.graph.groups import PruneGroup
    from autoprune.graph.model import PrunableGraph
    from autoprune.recipe import Recipe
    from autoprune.records import Stage
    from autoprune.task import Task

    Keep = Mapping[str, tuple[int, ...]]


class Saliencies:
    """The saliency of every unit of the dense model, computed once for each criterion and seed.

    Attributes:
        passes: of recoveries over that model and its cuts, see `Reference`.
    """

    def __init__(self, graph: PrunableGraph, task: Task) -> None:
        self.graph = graph
        self.task = task
        self.passes: dict[Hashable, Passes] = {}
        self._scores: dict[tuple[str, int], dict[str, Tensor]] = {}

    def of(self, name: str, *, seed: int = 0) -> dict[str, Tensor]:
        """Group id -> saliency (size,) by the criterion of that name. Raises UsageError when there is none."""
        if (name, seed) not in self._scores:
            self._scores[name, seed] = criterion(name).score(self.graph, self.task, seed=seed)
        return self._scores[name, seed]

    @cached_property
    def dense(self) -> nn.Module:
        """That model, in evaluation mode; nothing may change it."""
        return self.graph.module().eval()

    def reference(self, rows: Mapping[str, Tensor]) -> Reference:
        """What a recovery needs to know of it; ``rows`` as in `Reference`."""
        return Reference(self.dense, rows, self.passes)

    def warm(self, names: Iterable[str], *, seed: int = 0) -> None:
        """Compute these criteria now, so that no candidate pays for them."""
        for name in names:
            self.of(name, seed=seed)


def select(recipe: Recipe, saliencies: Saliencies) -> Keep:
    """Group id -> the units that stay, ascending: those with the highest saliency, the first of equals; () drops it.

    Raises:
        PruneError: the recipe names a group that does not exist, or keeps more units than it has.
        StageError: ``saliency`` is not finite.
    """
    groups = {group.id: group for group in saliencies.graph.groups}
    keep: dict[str, tuple[int, ...]] = {}
    for name, choice in sorted(recipe.choices.items()):
        if name not in groups:
            raise PruneError(f"The recipe cuts group '{name}', which this model does not have.")
        if choice.units > groups[name].size:
            raise PruneError(f"The recipe keeps {choice.units} units of '{name}', which has {groups[name].size}.")
        if choice.units < groups[name].size:
            keep[name] = _best(saliencies.of(recipe.criterion, seed=recipe.seed)[name], choice.units, group=name)
    return keep


def _best(saliency: Tensor, units: int, *, group: str) -> tuple[int, ...]:
    if not bool(saliency.isfinite().all()):
        raise StageError(f"The saliency of group '{group}' is not finite.", kind="saliency")
    order = saliency.argsort(descending=True, stable=True)
    return tuple(sorted(order[:units].tolist()))


def compress(
    graph: PrunableGraph,
    recipe: Recipe,
    *,
    task: Task,
    saliencies: Saliencies,
    notify: Callable[[Stage], None] | None = None,
) -> nn.Module:
    """The smaller model of this recipe, in evaluation mode. ``notify`` is told each stage as it begins.

    Raises:
        StageError: this candidate cannot be made.
        PruneError: the recipe does not fit the graph.
        TaskError: data is needed and there is none.
    """
    tell = notify or (lambda stage: None)
    tell("cut")
    keep = select(recipe, saliencies)
    model = cut(graph, keep)
    if not recipe.recover:
        return model
    tell("recover")
    reference = saliencies.reference(_rows(saliencies.dense, graph.groups, keep))
    for name in recipe.recover:
        recovery(name).recover(model, reference, task, recipe)
    return model


def _rows(dense: nn.Module, groups: Iterable[PruneGroup], keep: Keep) -> dict[str, Tensor]:
    """For each parameter or buffer that loses some of dimension 0, the dense indices that remain."""
    import torch

    removed: dict[str, set[int]] = defaultdict(set)
    for group in groups:
        gone = set(range(group.size)) - set(keep.get(group.id, range(group.size)))
        for member in group.members if gone else ():
            if member.dim == 0:
                removed[member.parameter].update(place for unit in gone for place in member.index[unit])
    return {
        name: torch.tensor([row for row in range(len(tensor)) if row not in removed[name]], dtype=torch.long)
        for name, tensor in (*dense.named_parameters(), *dense.named_buffers())
        if name in removed
    }
