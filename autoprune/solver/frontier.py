"""One resource, every budget: the best choices from a single pass of dynamic programming over a grid of spends."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from autoprune.solver.problem import Choice, Floats, Integers, Problem

K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class Frontier:
    """The best choice for every budget of a problem with one resource.

    What is guaranteed. Let a step be the range of totals that are worth spending, divided by the resolution, and n the
    number of groups with a decision to make. The choice for a budget never spends more than it. It costs no more than
    the optimum of a budget that is smaller by n steps (and nearly always much less than that); no choice within the
    budget costs less than its ``bound``. A larger budget never costs more. None is the answer only where even the least
    spend exceeds the budget.

    The totals of the grid are sums of rounded spends, n / 2 steps off at most; what decides whether a choice is within
    a budget is its true spend. Time and memory are groups x levels x resolution, whatever the numbers.

    Source: the dynamic programme of SPDY (2022), section 3.1; scaling as in Kellerer et al. (2004), chapter 11.
    """

    problem: Problem
    step: float
    steps: Integers
    """Shape (groups, levels): spends in steps, rounded."""
    rows: Floats
    """Shape (groups + 1, cells): the least cost of the first groups with a total of at most that many steps."""

    @classmethod
    def of(cls, problem: Problem, *, resolution: int = 16384) -> "Frontier":
        """Run the pass.

        Raises:
            ValueError: not exactly one resource, or a resolution below 1.
        """
        if len(problem.resources) != 1 or resolution < 1:
            names = ", ".join(problem.resources) or "none"
            raise ValueError(f"A frontier needs one resource and a positive resolution, not {names} and {resolution}.")
        spends = np.where(np.isfinite(problem.cost_table), problem.spend_table[..., 0], 0.0)
        step = float(spends.max(axis=1, initial=0.0).sum()) / resolution or 1.0
        steps = np.rint(spends / step).astype(np.int64)
        return cls(problem, step, steps, _pass(problem.cost_table, steps))

    def at(self, budget: float) -> Choice | None:
        """The best choice for ``budget`` (unit of the spends), None where no choice is within it."""
        name = self.problem.resources[0]
        slack, tolerance = self.problem.slack({name: budget})[0], self.problem.tolerance[0]
        if slack < -tolerance:
            return None
        off = self._decisions / 2 + tolerance / self.step
        last = self.rows.shape[1] - 1
        low, high = (int(np.clip(slack / self.step + by, 0, last)) for by in (-off - 1, off))
        levels = self._levels(np.arange(low, high + 1))
        cheapest = levels[np.flatnonzero(self._spent(levels) <= slack + tolerance)[-1]]
        return self.problem.choice(cheapest.tolist(), bound=self.problem.base_cost + float(self.rows[-1, high]))

    def levels(self) -> Integers:
        """Levels of every choice that is the best for some budget, by falling cost: (choices, groups)."""
        levels = self._levels(np.arange(self.rows.shape[1]))
        least = np.minimum.accumulate(self._spent(levels)[::-1])[::-1]  # of a choice and all cheaper ones
        found: Integers = levels[np.append(least[:-1] < least[1:], True)]
        return found

    @property
    def _decisions(self) -> int:
        """Groups with more than one level worth having."""
        return int((np.isfinite(self.problem.cost_table).sum(axis=1) > 1).sum())

    def _levels(self, cells: Integers) -> Integers:
        """Shape (choices, groups), ever cheaper: the choice of least spend, then those of the cells."""
        costs, final = self.problem.cost_table, -self.rows[-1]
        cells = np.unique(np.searchsorted(final, final[cells]))  # of equal costs the one that spends least
        levels = np.empty((1 + len(cells), len(costs)), dtype=np.int64)
        levels[0] = np.where(np.isfinite(costs), self.problem.spend_table[..., 0], np.inf).argmin(axis=1)
        for i in reversed(range(len(costs))):
            source = cells[:, None] - self.steps[i]
            before = np.where(source >= 0, self.rows[i][np.maximum(source, 0)] + costs[i], np.inf)
            levels[1:, i] = before.argmin(axis=1)
            cells = cells - self.steps[i][levels[1:, i]]
        return levels

    def _spent(self, levels: Integers) -> Floats:
        spent: Floats = self.problem.spend_table[np.arange(levels.shape[1]), levels, 0].sum(axis=1)
        return spent


def cheapest_at(frontiers: Mapping[K, Frontier], budget: float) -> tuple[K, Choice] | None:
    """The name of the best scenario for ``budget`` and its choice, bounded over all; None where none is within."""
    found = {name: choice for name, frontier in frontiers.items() if (choice := frontier.at(budget))}
    if not found:
        return None
    name = min(found, key=lambda name: found[name].cost)
    return name, replace(found[name], bound=min(choice.bound for choice in found.values()))


def _pass(costs: Floats, steps: Integers) -> Floats:
    cells = int(steps.max(axis=1, initial=0).sum()) + 1
    rows = np.empty((len(costs) + 1, cells))
    rows[0] = 0.0
    scratch = np.empty(cells)
    for i in range(len(costs)):
        rows[i + 1] = np.inf
        for j in np.flatnonzero(np.isfinite(costs[i])):
            shift = steps[i, j]
            reached = np.add(rows[i, : cells - shift], costs[i, j], out=scratch[: cells - shift])
            np.minimum(rows[i + 1, shift:], reached, out=rows[i + 1, shift:])
    return rows
