"""The best recipe by a table of errors for a budget of latency, or of another cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autoprune.solver import Choice, Frontier, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.hardware import Precision
    from autoprune.solver.problem import Floats, Integers
    from autoprune.space import BoundSpace
    from autoprune.strategies._tables import Costs, Tables

SHARE = "share"
CORRECTIONS = 4
RESOLUTION = 4096
COARSE = 1024  # where the costs are drawn at random


@dataclass(frozen=True)
class Budgets:
    """Solves the knapsack of ``costs`` against what cuts save.

    Attributes:
        bearable: the sum of costs beyond which no budget goes; infinite where every budget makes sense.
    """

    space: BoundSpace
    tables: Tables
    costs: Costs
    bearable: float = float("inf")

    def problem(self, precision: Precision) -> Problem:
        """Costs and shares of one precision, levels as in ``space.levels``."""
        regression, levels = self.tables.regressions[precision], self.space.levels
        savings = regression.savings
        spends = [
            # rounded, so that ties fall alike however the trials' corrections were summed
            -np.array([savings.get((group, n), 0.0) for n in known]).round(9)
            for group, known in levels.items()
        ]
        costs = [row[: len(known)] for row, known in zip(self._table, levels.values(), strict=True)]
        return Problem(costs=costs, spends={SHARE: spends}, base_spends={SHARE: float(regression.mean[0])})

    def solve(self, precision: Precision, depth: float) -> dict[str, int]:
        """Units kept at a budget ``depth`` of the way (in ratios) from the dense share to the least bearable one."""
        problem = self.problem(precision)
        frontier = Frontier.of(problem, resolution=RESOLUTION)
        whole = self.tables.share({}, precision)[0]
        wanted = whole * (self._least(precision) / whole) ** depth
        budget, kept = wanted, dict[str, int]()
        for _ in range(CORRECTIONS):  # groups that meet in an operator save less together than the sum says
            choice = frontier.at(budget) or problem.choice([int(row.argmin()) for row in problem.spends[SHARE]])
            kept = self.kept(choice)
            budget += wanted - self.tables.share(kept, precision)[0]
        return kept

    def all(
        self,
        precision: Precision,
        *,
        power: float = 1.0,
        weights: Sequence[float] | None = None,
        resolution: int = RESOLUTION,
        beyond: bool = False,
    ) -> Integers:
        """Levels of the best choice for every bearable budget, the fastest first: (choices, groups).

        Costs are raised to ``power`` and multiplied by the weight of their group; what is bearable is not. With
        ``beyond``, of every budget.
        """
        coefficients = weights or [1.0] * len(self.space.levels)
        weighed = self.problem(precision).transformed(power=power, coefficients=coefficients)
        levels = Frontier.of(weighed, resolution=resolution).levels()
        return levels if beyond else self.borne(levels)

    def borne(self, levels: Integers) -> Integers:
        """Those of choices that are bearable: both (choices, groups)."""
        return levels[self.summed(levels) <= self.bearable]

    def within(self, levels: Integers, costs: Sequence[float]) -> Integers:
        """Of choices, the fastest first, that which costs no more than each of these: (costs, groups)."""
        return levels[[int((self.summed(levels) <= cost).argmax()) for cost in costs]]

    def kept(self, choice: Choice) -> dict[str, int]:
        """Units kept of the groups that ``choice`` cuts."""
        levels = self.space.levels
        kept = {group: levels[group][level] for group, level in zip(levels, choice.levels, strict=True)}
        return {group: units for group, units in kept.items() if units != self.space.sizes[group]}

    def _least(self, precision: Precision) -> float:
        """The least share that is bearable."""
        problem = self.problem(precision)
        levels = Frontier.of(problem, resolution=RESOLUTION).levels()
        fastest = levels[int((self.summed(levels) <= self.bearable).argmax())]
        return max(self.tables.share(self.kept(problem.choice(fastest)), precision)[0], 1e-3)

    def summed(self, levels: Integers) -> Floats:
        """Costs of (choices, groups): (choices,)."""
        found: Floats = self.by_level(levels).sum(axis=1)
        return found

    def by_level(self, levels: Integers) -> Floats:
        """Costs of each group at these levels: both (choices, groups)."""
        return self._table[np.arange(len(self._table)), levels]

    @cached_property
    def _table(self) -> Floats:
        """(groups, most levels)."""
        known = self.space.levels
        found = np.zeros((len(known), max(map(len, known.values()), default=0)))
        for n, (group, levels) in enumerate(known.items()):
            found[n, : len(levels)] = [self.costs[group][units] for units in levels]
        return found
