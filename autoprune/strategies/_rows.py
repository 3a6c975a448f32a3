"""Recipes of a space as rows of numbers, so that thousands can be weighed at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoprune.latency import kept_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.recipe import Recipe
    from autoprune.space import BoundSpace

Integers = npt.NDArray[np.int64]
LABELS = 3  # precision, criterion, way to recover


@dataclass(frozen=True)
class Rows:
    """Turns recipes of ``space`` into rows and back.

    A row is an index into the levels of every group that has a choice, then indices of precision, criterion and way
    to recover in the order of the space.
    """

    space: BoundSpace

    @cached_property
    def options(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Precisions, criteria, labels of ways to recover."""
        space = self.space.space
        return self.space.precisions, space.criterion, [choice.label for choice in space.recover]

    @cached_property
    def highest(self) -> Integers:
        """The last index of every column."""
        last = [len(levels) - 1 for levels in self.space.levels.values()]
        return np.array([*last, *(len(options) - 1 for options in self.options)])

    def of(self, recipes: Iterable[Recipe]) -> Integers:
        """(recipes, columns). The dense model has the first criterion and way to recover."""
        return self.cut([kept_units(recipe) for recipe in recipes], [self._labels(recipe) for recipe in recipes])

    def cut(self, kept: Sequence[Mapping[str, int]], labels: Sequence[Sequence[int]]) -> Integers:
        """Rows of these units kept with these labels."""
        rows = [
            [*(levels.index(one.get(group, levels[-1])) for group, levels in self.space.levels.items()), *label]
            for one, label in zip(kept, labels, strict=True)
        ]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.highest))

    def recipe(self, row: Integers) -> Recipe:
        """The recipe of one row."""
        levels, labels = row[:-LABELS].tolist(), row[-LABELS:].tolist()
        kept = {group: known[n] for (group, known), n in zip(self.space.levels.items(), levels, strict=True)}
        precision, criterion, recover = (options[n] for options, n in zip(self.options, labels, strict=True))
        return self.space.recipe(kept, criterion=criterion, precision=precision, recover=recover)

    def units(self, rows: Integers) -> npt.NDArray[np.float64]:
        """Units kept of all groups of the model, (rows, groups)."""
        found = np.tile(np.array(list(self.space.sizes.values()), dtype=float), (len(rows), 1))
        columns = {group: n for n, group in enumerate(self.space.sizes)}
        for n, (group, levels) in enumerate(self.space.levels.items()):
            found[:, columns[group]] = np.array(levels)[rows[:, n]]
        return found

    def labelled(self, rows: Integers) -> Integers:
        """Each row with every criterion and every way to recover."""
        _, criteria, recoveries = (len(options) for options in self.options)
        found = np.repeat(rows, criteria * recoveries, axis=0)
        found[:, -2] = np.tile(np.repeat(np.arange(criteria), recoveries), len(rows))
        found[:, -1] = np.tile(np.arange(recoveries), len(rows) * criteria)
        return found

    def around(self, rows: Integers) -> Integers:
        """What differs from one of ``rows`` by one step in one column."""
        steps = np.vstack([np.eye(len(self.highest), dtype=np.int64), -np.eye(len(self.highest), dtype=np.int64)])
        found = (rows[:, None, :] + steps).reshape(-1, rows.shape[1])
        return found[((found >= 0) & (found <= self.highest)).all(axis=1)]

    def _labels(self, recipe: Recipe) -> list[int]:
        precisions, criteria, recoveries = self.options
        if not recipe.choices:
            return [precisions.index(recipe.precision), 0, 0]
        label = self.space.label(recipe)
        return [precisions.index(recipe.precision), criteria.index(recipe.criterion), recoveries.index(label)]
