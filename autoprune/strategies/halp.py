"""A knapsack of saliency against latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.strategies._base import Search
from autoprune.strategies._budgets import Budgets
from autoprune.strategies._ladder import dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.pareto import Goals
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Answers
    from autoprune.strategies._tables import Tables

RUNGS = 32


class HalpSearch(Search):
    """One recipe per budget: the least summed Taylor saliency removed; random recipes when the budgets are through."""

    def __init__(self, space: BoundSpace, seed: int, tables: Tables) -> None:
        super().__init__(space, seed)
        self.budgets = Budgets(space, tables, tables.importance)

    def seeds(self) -> Sequence[Answers]:
        found = dense(self.space)
        for rung in range(1, RUNGS + 1):
            for precision in self.space.precisions:
                kept = self.budgets.solve(precision, rung / RUNGS)
                found.append(self.space.answers(kept, precision=precision))
        return list({str(sorted(answers.items())): answers for answers in found}.values())


@dataclass(frozen=True)
class Halp:
    """In the manner of HALP (Shen et al. 2022): importance is a sum over units, latency a table."""

    name: str = "halp"
    description: str = "knapsack of Taylor saliency against the latency table, a ladder of budgets"
    needs_tables: bool = True

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None, goals: Goals) -> Search:
        assert tables is not None
        return HalpSearch(space, seed, tables)


STRATEGY = Halp()
