"""Optimal Brain Surgeon and the L2 norm together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.criteria.l2 import CRITERION as GROUP_L2
from autoprune.compress.criteria.obs import CRITERION as OPTIMAL_BRAIN_SURGEON

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task


@dataclass(frozen=True)
class RankSum:
    """The unit's rank within its group by `obs` plus its rank by `l2`, each from 0.

    `obs` knows which units others can stand in for, but trusts the refit; `l2` knows which units do little, whatever
    becomes of the others. What both can spare costs least when many layers are cut at once.
    """

    name: str = "obs_l2"
    description: str = "rank by obs plus rank by l2"
    needs_data: bool = True

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """See `Criterion.score`. Raises TaskError when the training split is empty."""
        obs, l2 = (method.score(graph, task, seed=seed) for method in (OPTIMAL_BRAIN_SURGEON, GROUP_L2))
        return {group: ranks(obs[group]) + ranks(l2[group]) for group in obs}


def ranks(scores: Tensor) -> Tensor:
    """0 for the least, the first of equals; not a number stays so: float64 (units,)."""
    ranked = scores.argsort(stable=True).argsort().double()
    return ranked.masked_fill(scores.isnan(), float("nan"))


CRITERION = RankSum()
