"""The problem as tables, and one answer to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import fsum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

TOLERANCE = 1e-9  # of the largest sum that a table allows: what the order of a summation can change


@dataclass(frozen=True)
class Choice:
    """One level for each group.

    Attributes:
        levels: for each group an index into its table.
        cost: the sum of the costs and the base cost.
        spends: by resource, the sum of the spends and the base spend.
        bound: no choice within the budgets that were asked for costs less than this, which is proven. As large as
            ``cost`` where this choice is optimal; 0 where nothing was asked.
    """

    levels: tuple[int, ...]
    cost: float
    spends: Mapping[str, float]
    bound: float = 0.0


@dataclass(frozen=True, eq=False)
class Problem:
    """Groups with levels; each level has a cost and spends of each resource.

    Attributes:
        costs: for each group the errors of its levels, non-negative.
        spends: by resource, shaped like ``costs``; in any unit and of any sign (differences to the dense model too).
        base_cost: cost of the scenario itself (a precision, a dropped layer), non-negative.
        base_spends: spends of the scenario itself; 0 for a resource that is not named.

    Raises:
        ValueError: a group without levels, shapes that differ, a number that is not finite, a negative cost, a base
            spend of an unknown resource.
    """

    costs: Sequence[Floats]
    spends: Mapping[str, Sequence[Floats]]
    base_cost: float = 0.0
    base_spends: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        costs = tuple(_row(row, f"The costs of group {i}") for i, row in enumerate(self.costs))
        object.__setattr__(self, "costs", costs)
        for i, row in enumerate(costs):
            if row.min() < 0:
                raise ValueError(f"The costs of group {i} are negative at level {row.argmin()}: costs start at 0.")
        object.__setattr__(self, "spends", {name: self._checked(name, rows) for name, rows in self.spends.items()})
        if not (np.isfinite(self.base_cost) and self.base_cost >= 0):
            raise ValueError(f"The base cost is {self.base_cost}: it has to be finite and not negative.")
        for name, spend in self.base_spends.items():
            if name not in self.spends or not np.isfinite(spend):
                raise ValueError(f"The base spend of '{name}' is {spend}: a finite number of a resource is needed.")

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the resources."""
        return tuple(self.spends)

    def choice(self, levels: Sequence[int], *, bound: float = 0.0) -> Choice:
        """Those levels, summed up.

        Raises:
            ValueError: not one level for each group, or one that a group does not have.
        """
        if len(levels) != len(self.costs):
            raise ValueError(f"{len(levels)} levels were given for {len(self.costs)} groups.")
        for i, (level, costs) in enumerate(zip(levels, self.costs, strict=True)):
            if not 0 <= level < len(costs):
                raise ValueError(f"Group {i} has no level {level}: it has {len(costs)}, counted from 0.")
        spends = {
            name: fsum([self.base_spends.get(name, 0.0), *(row[j] for row, j in zip(rows, levels, strict=True))])
            for name, rows in self.spends.items()
        }
        cost = fsum([self.base_cost, *(row[j] for row, j in zip(self.costs, levels, strict=True))])
        return Choice(tuple(int(level) for level in levels), cost, spends, min(bound, cost))

    def transformed(self, *, power: float = 1.0, coefficients: Sequence[float] | None = None) -> "Problem":
        """Costs to a power, then times a coefficient for each group: what SPDY searches, because errors do not add.

        The base cost is raised to the power too, and has no coefficient.

        Raises:
            ValueError: the power is not positive, or the coefficients are not one non-negative number for each group.
        """
        factors = _row(np.ones(len(self.costs)) if coefficients is None else coefficients, "The coefficients")
        if power <= 0 or len(factors) != len(self.costs) or factors.min() < 0:
            raise ValueError("Costs are transformed by a positive power and one non-negative coefficient a group.")
        costs = [factor * row**power for factor, row in zip(factors, self.costs, strict=True)]
        return replace(self, costs=costs, base_cost=self.base_cost**power)

    def slack(self, budgets: Mapping[str, float]) -> Floats:
        """What ``budgets`` leave above the least that all groups can spend, by resource; infinite without a budget.

        Raises:
            ValueError: a budget of an unknown resource, or one that is not a number.
        """
        for name, budget in budgets.items():
            if name not in self.spends or np.isnan(budget):
                known = ", ".join(self.spends) or "no resource"
                raise ValueError(f"The budget of '{name}' is {budget}: budgets are numbers, of {known}.")
        return np.array([budgets.get(name, np.inf) for name in self.spends]) - self.least

    @cached_property
    def tolerance(self) -> Floats:
        """By resource: a budget that is exceeded by no more than this is kept; it is the rounding error of sums."""
        largest = [sum(np.abs(row).max() for row in rows) for rows in self.spends.values()]
        base = [abs(self.base_spends.get(name, 0.0)) for name in self.spends]
        return TOLERANCE * (np.array(largest, dtype=float) + base)

    @cached_property
    def least(self) -> Floats:
        """By resource, the sum of the least spends of all groups and the base spend."""
        lowest = [fsum(row.min() for row in rows) for rows in self.spends.values()]
        return np.array(lowest, dtype=float) + [self.base_spends.get(name, 0.0) for name in self.spends]

    @cached_property
    def cost_table(self) -> Floats:
        """Shape (groups, most levels): the costs; infinite where a group has no such level or another is no worse.

        A level is left out when another costs no more and spends no more of any resource: an optimum needs it never.
        """
        costs = _padded(self.costs, np.inf)
        table = np.concatenate([costs[..., None], self.spend_table], axis=2)
        # [i, k, j]: level k of group i is no worse than level j
        no_worse = np.logical_and.reduce(table[:, :, None] <= table[:, None, :], axis=3)
        ahead = np.tri(costs.shape[1], k=-1, dtype=bool).T  # of two equal levels the first stays
        beaten = (no_worse & (~no_worse.swapaxes(1, 2) | ahead)).any(axis=1)
        return np.where(beaten, np.inf, costs)

    @cached_property
    def spend_table(self) -> Floats:
        """Shape (groups, most levels, resources): spends above the least of the group; 0 where there is no level."""
        most = max((len(row) for row in self.costs), default=0)
        table = np.zeros((len(self.costs), most, len(self.spends)))
        for r, rows in enumerate(self.spends.values()):
            table[:, :, r] = _padded([row - row.min() for row in rows], 0.0)
        return table

    def _checked(self, name: str, rows: Sequence[Floats]) -> tuple[Floats, ...]:
        checked = tuple(_row(row, f"The spends of '{name}' of group {i}") for i, row in enumerate(rows))
        sizes, wanted = [len(row) for row in checked], [len(row) for row in self.costs]
        if sizes != wanted:
            raise ValueError(f"The spends of '{name}' have {sizes} levels by group, but the costs have {wanted}.")
        return checked


def _row(values: object, what: str) -> Floats:
    row = np.array(values, dtype=np.float64)
    if row.ndim != 1 or not len(row) or not np.isfinite(row).all():
        raise ValueError(f"{what} have to be a row of one or more finite numbers.")
    row.setflags(write=False)
    return row


def _padded(rows: Sequence[Floats], fill: float) -> Floats:
    table = np.full((len(rows), max((len(row) for row in rows), default=0)), fill)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
