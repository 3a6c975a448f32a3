"""The best recipe by a table of errors for a budget of latency, or of another cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoprune.solver import Choice, Frontier, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.hardware import Precision
    from autoprune.space import BoundSpace
    from autoprune.strategies._tables import Costs, Tables

SHARE = "share"
CORRECTIONS = 4
RESOLUTION = 4096


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
        costs = [np.array([self.costs[group][n] for n in known]) for group, known in levels.items()]
        spends = [
            # rounded, so that ties fall alike however the trials' corrections were summed
            np.array([0.0 if n == self.space.sizes[group] else -regression.saving(group, n)[0] for n in known]).round(9)
            for group, known in levels.items()
        ]
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

    def at_costs(self, precision: Precision, costs: Sequence[float]) -> list[dict[str, int]]:
        """Units kept by the fastest choice that costs no more than each of these."""
        choices = Frontier.of(self.problem(precision), resolution=RESOLUTION).choices()
        return [self.kept(next(choice for choice in choices if choice.cost <= cost)) for cost in costs]

    def all(self, precision: Precision, *, power: float, weights: Sequence[float]) -> list[dict[str, int]]:
        """Units kept by the best choice for every bearable budget, the fastest first.

        Costs are raised to ``power`` and multiplied by the weight of their group; what is bearable is not.
        """
        plain = self.problem(precision)
        choices = Frontier.of(plain.transformed(power=power, coefficients=weights), resolution=RESOLUTION).choices()
        bearable = [choice for choice in choices if plain.choice(choice.levels).cost <= self.bearable]
        return [self.kept(choice) for choice in bearable]

    def kept(self, choice: Choice) -> dict[str, int]:
        """Units kept of the groups that ``choice`` cuts."""
        levels = self.space.levels
        kept = {group: levels[group][level] for group, level in zip(levels, choice.levels, strict=True)}
        return {group: units for group, units in kept.items() if units != self.space.sizes[group]}

    def _least(self, precision: Precision) -> float:
        """The least share that is bearable."""
        choices = Frontier.of(self.problem(precision), resolution=RESOLUTION).choices()
        bearable = [choice for choice in choices if choice.cost <= self.bearable] or choices[-1:]
        return max(self.tables.share(self.kept(bearable[0]), precision)[0], 1e-3)
