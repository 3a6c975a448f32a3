"""L1 norm of a coupled group's slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.criteria._units import matrices, sum_over_units

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task


@dataclass(frozen=True)
class GroupL1:
    """``sum |w|`` over all slices of the unit, across all members of its group; biases and norms do not count.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets" (one filter), summed over the coupled slices as
    in Fang et al. 2023, "DepGraph: Towards Any Structural Pruning".
    """

    name: str = "l1"
    description: str = "sum of absolute weights of the unit over all coupled layers"
    needs_data: bool = False

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """See `Criterion.score`; depends on the weights alone."""
        sizes = {name: weight.abs() for name, weight in matrices(graph.module()).items()}
        return {group.id: sum_over_units(group, sizes) for group in graph.groups}


CRITERION = GroupL1()
