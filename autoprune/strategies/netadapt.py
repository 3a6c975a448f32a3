"""Step by step to a faster model, every step tried in every group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.strategies._base import Search
from autoprune.strategies._ladder import dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.pareto import Goals
    from autoprune.recipe import Recipe
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Answers, Records
    from autoprune.strategies._tables import Tables

STEP = 0.04  # of the dense latency in that precision, saved by each step


class NetAdaptSearch(Search):
    """In each step every group is narrowed, by itself, until the step's latency is saved; the best of them stays.

    In the precision that is fastest when dense. A group that cannot save the step by itself is left out; when none can,
    the rest is random.
    """

    def __init__(self, space: BoundSpace, seed: int, tables: Tables) -> None:
        super().__init__(space, seed)
        self.tables = tables
        self.precision = min(space.precisions, key=lambda precision: tables.share({}, precision)[0])
        self.records: Records = {}
        self.pending: set[str] = set()
        self.kept: dict[str, int] = {}
        self.candidates = self._candidates()

    def seeds(self) -> Sequence[Answers]:
        return dense(self.space)

    def learn(self, records: Records, *, pending: Sequence[Recipe] = ()) -> None:
        self.records, self.pending = records, {recipe.id for recipe in pending}

    def propose(self, question: int) -> Answers | None:
        while self.candidates:
            untried = [kept for kept in self.candidates if self._recipe(kept).id not in self.records]
            untried.sort(key=lambda kept: self._recipe(kept).id in self.pending)
            if untried:
                return self.space.answers(untried[0], precision=self.precision)
            self.kept = max(self.candidates, key=self._accuracy)
            self.candidates = self._candidates()
        return None

    def _candidates(self) -> list[dict[str, int]]:
        whole, now = self.tables.share({}, self.precision)[0], self.tables.share(self.kept, self.precision)[0]
        found = (self._narrowed(group, now - STEP * whole) for group in self.space.levels)
        return [kept for kept in found if kept is not None]

    def _narrowed(self, group: str, budget: float) -> dict[str, int] | None:
        present = self.kept.get(group, self.space.sizes[group])
        for units in sorted((n for n in self.space.levels[group] if n < present), reverse=True):
            kept = {**self.kept, group: units}
            if self.tables.share(kept, self.precision)[0] <= budget:
                return kept
        return None

    def _recipe(self, kept: dict[str, int]) -> Recipe:
        space = self.space.space
        return self.space.recipe(
            kept, criterion=space.criterion[0], precision=self.precision, recover=space.recover[0].label
        )

    def _accuracy(self, kept: dict[str, int]) -> float:
        score = self.records[self._recipe(kept).id].score
        return score.accuracy if score else float("-inf")


@dataclass(frozen=True)
class NetAdapt:
    """NetAdapt (Yang et al. 2018) with measured latency tables."""

    name: str = "netadapt"
    description: str = "greedy steps of latency, each tried in every group, the most accurate kept"
    needs_tables: bool = True

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None, goals: Goals) -> Search:
        assert tables is not None
        return NetAdaptSearch(space, seed, tables)


STRATEGY = NetAdapt()
