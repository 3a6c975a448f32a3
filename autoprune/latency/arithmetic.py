"""What a regression of latencies knows of a model: its groups, and how its work follows their widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Kept = Mapping[str, int]
POWERS = (2, 3)  # of the share of the work that is removed


@dataclass(frozen=True)
class Arithmetic:
    """What a regression needs to know of a model.

    Attributes:
        sizes: group id -> units, in the order of the graph.
        levels: group id -> unit counts that may stay, ascending; only groups with a choice.
        makes: group id -> what groups that cost alike have in common.
        work: from units kept, (recipes, groups) in the order of ``sizes``, and the padding, to what the cost is
            expected to follow, (recipes,): multiply-accumulates where it is latency.
        padding: the part that is paid for of what a width lacks to the next multiple of what kernels compute at a time.
    """

    sizes: Mapping[str, int]
    levels: Mapping[str, tuple[int, ...]]
    makes: Mapping[str, str]
    work: Callable[[Array, float], Array]
    padding: float = 0.0

    def padded(self, padding: float) -> Arithmetic:
        """The same with that padding, made once."""
        if padding not in self._padded:
            self._padded[padding] = replace(self, padding=padding)
        return self._padded[padding]

    @cached_property
    def _padded(self) -> dict[float, Arithmetic]:
        return {}

    def _work(self, units: Array) -> Array:
        return self.work(units, self.padding)

    @cached_property
    def places(self) -> list[tuple[str, int]]:
        """Group and units of every coefficient."""
        return [(g, n) for g, levels in self.levels.items() for n in levels if n != self.sizes[g]]

    @cached_property
    def dense(self) -> float:
        """The work of the whole model."""
        return float(self._work(self.units([{}]))[0])

    @cached_property
    def alone(self) -> dict[tuple[str, int], float]:
        """The work that each place removes by itself."""
        left = self._work(self.units([{group: units} for group, units in self.places]))
        return dict(zip(self.places, (self.dense - left).tolist(), strict=True))

    def units(self, recipes: Sequence[Kept]) -> Array:
        """Units kept of all groups: (recipes, groups)."""
        return np.array(
            [[kept.get(group, size) for group, size in self.sizes.items()] for kept in recipes], dtype=float
        )

    def columns(self, units: Array) -> Integers:
        """Which coefficient each group with levels takes, counted from 1; 0 where it is whole: (recipes, groups)."""
        return self._lookup[np.arange(len(self.levels)), units[:, self._varied].astype(np.int64)]

    def ratios(self, units: Array) -> Array:
        """The ratio of each group with levels, 1 where it is whole: (recipes, groups)."""
        after = np.tile(np.array(list(self.sizes.values()), dtype=float), (len(units), 1))
        lefts = [self._work(after)]
        for column in self._varied:
            after[:, column] = units[:, column]
            lefts.append(self._work(after))
        removed, alone = -np.diff(lefts, axis=0).T, np.array([0.0, *self.alone.values()])[self.columns(units)]
        found: Array = np.divide(removed, alone, out=np.ones_like(removed), where=alone != 0)
        return found

    def together(self, units: Array) -> Array:
        """What a recipe cuts together, (recipes, `POWERS` + `pairs` + `chained`); 0 where only one group is cut.

        First the powers of the share of the work that is removed, without the powers of what each group removes by
        itself; then for each pair the product of the fractions of their units; then whether both groups
        of each link of a chain are dropped.
        """
        share = np.array([0.0, *self.alone.values()])[self.columns(units)] / self.dense
        removed = 1 - self._work(units) / self.dense
        sizes = np.array([self.sizes[group] for group in self.levels], dtype=float)
        cut = 1 - units[:, self._varied] / sizes
        (one, other), (first, second) = self.pairs, self.chained
        dropped = cut[:, first] * cut[:, second] == 1
        curves = [removed**power - (share**power).sum(axis=1) for power in POWERS]
        return np.column_stack([*curves, cut[:, one] * cut[:, other], dropped])

    @cached_property
    def pairs(self) -> tuple[Integers, Integers]:
        """Groups with levels, counted in their order, that may temper each other: neighbours, and those that meet."""
        one, other = np.triu_indices(len(self.levels), 1)
        related = (other == one + 1) | (self.shared[one, other] > 0)
        return one[related], other[related]

    @cached_property
    def chained(self) -> tuple[Integers, Integers]:
        """Groups with levels that can be dropped, counted in the order of all, each with the next of them."""
        droppable = np.array([n for n, levels in enumerate(self.levels.values()) if not levels[0]], dtype=np.int64)
        return droppable[:-1], droppable[1:]

    @cached_property
    def shared(self) -> Array:
        """The share of the work that either of two groups with levels could take away: (groups, groups), above the
        diagonal."""
        one, other = np.triu_indices(len(self.levels), 1)
        whole, varied = np.array(list(self.sizes.values()), dtype=float), np.array(self._varied, dtype=np.int64)
        single, both = np.tile(whole, (len(varied), 1)), np.tile(whole, (len(one), 1))
        single[np.arange(len(varied)), varied] = 0
        both[np.arange(len(one)), varied[one]] = both[np.arange(len(one)), varied[other]] = 0
        gone = self.dense - self._work(single)
        found = np.zeros((len(varied), len(varied)))
        found[one, other] = (gone[one] + gone[other] - (self.dense - self._work(both))) / self.dense
        return found.round(9)

    @cached_property
    def largest(self) -> Array:
        """The share of the work that each group with levels removes at most: (groups,)."""
        return np.array([max(self.alone[group, levels[0]], 0) / self.dense for group, levels in self.levels.items()])

    @cached_property
    def _varied(self) -> list[int]:
        """Columns of the groups with levels among all groups."""
        columns = {group: n for n, group in enumerate(self.sizes)}
        return [columns[group] for group in self.levels]

    @cached_property
    def _lookup(self) -> Integers:
        """(groups with levels, units): the column of the coefficient."""
        found = np.zeros((len(self.levels), 1 + max(self.sizes.values(), default=0)), dtype=np.int64)
        rows = {group: n for n, group in enumerate(self.levels)}
        for column, (group, units) in enumerate(self.places, 1):
            found[rows[group], units] = column
        return found
