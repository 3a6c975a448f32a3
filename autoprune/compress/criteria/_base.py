"""The contract of a criterion, and the registry."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from autoprune.plugins import by_name, load, pick, shipped

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task

ENTRY_POINTS = "autoprune.criteria"


class Criterion(Protocol):
    """Ranks the units of every group of a dense model; an entry point of ``autoprune.criteria`` names an instance.

    Scores of different groups need not be comparable: a recipe says how many units of each group stay.

    Attributes:
        name: what a recipe calls it; the name of its file or entry point.
        description: one line for lists.
        needs_data: whether it reads ``task.train``.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def needs_data(self) -> bool: ...

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """The saliency of every unit of every group on the dense model: group id -> (size,), greater is kept longer."""
        ...


@cache
def _known() -> dict[str, Criterion]:
    ours = shipped("autoprune.compress.criteria", "CRITERION")
    known = by_name(ours, group=ENTRY_POINTS, plural="criteria")
    return {name: cast(Criterion, load(entry)) for name, entry in known.items()}


def criteria() -> list[Criterion]:
    """All criteria, by name. Raises UsageError when two have the same name or a plug-in cannot be loaded."""
    return list(_known().values())


def criterion(name: str) -> Criterion:
    """The criterion of that name. Raises UsageError that lists the known ones when there is none."""
    return pick(_known(), name, "criterion")
