"""L2 norm of a coupled group's slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.criteria._units import matrices, sum_over_units

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task


@dataclass(frozen=True)
class GroupL2:
    """``sqrt(sum w^2)`` over all slices of the unit, across all members of its group; biases and norms do not count.

    Source: the group norm of Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", without normalisation
    (within a group it would not change the order).
    """

    name: str = "l2"
    description: str = "Euclidean norm of the unit's weights over all coupled layers"
    needs_data: bool = False

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """See `Criterion.score`; depends on the weights alone."""
        squares = {name: weight.square() for name, weight in matrices(graph.module()).items()}
        return {group.id: sum_over_units(group, squares).sqrt() for group in graph.groups}


CRITERION = GroupL2()
