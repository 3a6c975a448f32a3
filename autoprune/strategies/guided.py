"""A solver on measured tables, and a forecast that learns from trials what the tables miss."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoprune.latency import kept_units
from autoprune.pareto import least_useful
from autoprune.strategies._base import Search, question_seed
from autoprune.strategies._budgets import Budgets
from autoprune.strategies._forecast import Forecast, expected_gain
from autoprune.strategies._ladder import INNER, LADDER, dense
from autoprune.strategies._rows import LABELS, Integers, Rows

if TYPE_CHECKING:
    from autoprune.hardware import Precision
    from autoprune.recipe import Recipe
    from autoprune.records import TrialRecord
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Answers, Records
    from autoprune.strategies._tables import Tables

    Stairs = list[tuple[float, float]]

Array = npt.NDArray[np.float64]
RUNGS = (0.01, 0.03, 0.08, 0.2, 0.5, 1.2)  # summed divergences of the opening, in nats
WORST_DAMAGE = 4.0  # summed divergence, in nats, beyond which no budget goes: the model is lost there
SEGMENTS = 4  # consecutive groups that share a sensitivity
SPREAD = 0.7  # of the logarithms of sensitivities
DRAWS, ANSWERS = 2, 16  # sensitivities for each precision, and how many of the answers for all budgets are weighed
LEARNT = 200  # records at most: what a question costs grows with their cube


class GuidedSearch(Search):
    """Solver answers for a ladder of errors and uniform cuts; then whatever promises the front most.

    A question weighs some hundred recipes: the solver's answers, for all budgets, to sensitivities that are drawn
    around those of the error table (as SPDY does, Frantar and Alistarh 2022), and what is one step from the front.
    Their latencies (or another cost, where latency is no objective) come from the table, which trials correct, their
    accuracies from a `Forecast`, which trials teach; that with the largest expected gain is tried. (To climb from there
    to where the forecast is highest made searches worse: it is to be trusted near what was tried and along the solver's
    answers, not everywhere.)
    """

    def __init__(self, space: BoundSpace, seed: int, tables: Tables) -> None:
        super().__init__(space, seed)
        self.tables = tables
        self.rows = Rows(space)
        self.budgets = Budgets(space, tables, tables.damage, bearable=WORST_DAMAGE)
        # before trials correct the table, so that a run that is resumed opens alike
        self._rungs = {precision: self.budgets.at_costs(precision, RUNGS) for precision in space.precisions}
        self.records: dict[str, TrialRecord] = {}
        self._scored: list[TrialRecord] = []  # by recipe id, so that their order does not depend on when they came
        self._measured: Stairs = []  # their shares and accuracies
        self._whole: list[TrialRecord] = []  # those of them that cut nothing
        self._tried: set[bytes] = set()  # rows

    def seeds(self) -> Sequence[Answers]:
        """The dense model in each precision."""
        return dense(self.space)

    def learn(self, records: Records) -> None:
        for name in sorted(records.keys() - self.records.keys()):
            self.records[name] = record = records[name]
            if record.recipe.precision not in self.space.precisions:
                continue  # the dense FP32 model, where the space is without FP32
            self.tables.learn([record])
            self._tried.update(row.tobytes() for row in self.rows.of([record.recipe]))
            if record.score:
                place = bisect_left(self._scored, name, key=lambda one: one.recipe.id)
                self._scored.insert(place, record)
                self._measured.insert(place, (self.tables.measured(record.score), record.score.accuracy))
                self._whole += [] if record.recipe.choices else [record]

    def propose(self, question: int) -> Answers | None:
        left = (recipe for recipe in self._opening if recipe.id not in self.records and not self._hopeless(recipe))
        recipe = next(left, None) or self._most_promising(np.random.default_rng(question_seed(self.seed, question)))
        if recipe is None:
            return None
        label = self.space.label(recipe)
        kept = kept_units(recipe)
        return self.space.answers(kept, precision=recipe.precision, criterion=recipe.criterion, recover=label)

    @cached_property
    def _opening(self) -> list[Recipe]:
        """Solver answers by the tables as they were measured, and uniform cuts, in the fastest believable precision."""
        precision = min(self._believable, key=lambda name: self.tables.share({}, name)[0])
        kept = list(self._rungs[precision])
        if self.space.shared:
            kept += [self.space.near(ratio, whole=self.space.shared) for ratio in INNER]
        kept += [self.space.near(ratio) for ratio in LADDER]
        label = [self.space.precisions.index(precision), 0, 0]
        found = [self.rows.recipe(row) for row in self.rows.cut(kept, [label] * len(kept))]
        return list({recipe.id: recipe for recipe in found if recipe.choices}.values())

    def _hopeless(self, recipe: Recipe) -> bool:
        """Whether something slower was already too bad to count."""
        share = self.tables.share(kept_units(recipe), recipe.precision)[0]
        return any(one >= share and accuracy < self._floor for one, accuracy in self._measured)

    @property
    def _believable(self) -> list[Precision]:
        """Precisions in which the dense model is; all where none was tried."""
        scores = {record.recipe.precision: record.score for record in self._whole}
        good = [p for p, score in scores.items() if score and score.accuracy >= self._floor]
        return [p for p in self.space.precisions if p in good] or list(self.space.precisions)

    @property
    def _dense(self) -> float:
        """The best accuracy of a dense model; what a smaller one has beyond that is luck."""
        return max((record.score.accuracy for record in self._whole if record.score), default=np.inf)

    @property
    def _floor(self) -> float:
        """The least accuracy that counts."""
        return least_useful(self._dense) if np.isfinite(self._dense) else 0.0

    def _most_promising(self, rng: np.random.Generator) -> Recipe | None:
        """The recipe of the largest expected gain; None where nothing new is left."""
        if not self._scored:
            return None
        stairs = self._stairs()
        pool = np.unique(self._pool(stairs, rng), axis=0)
        whole = (pool[:, :-LABELS] == self.rows.highest[:-LABELS]).all(axis=1)  # the dense models were seeds
        new = pool[[not dense and row.tobytes() not in self._tried for row, dense in zip(pool, whole, strict=True)]]
        if not len(new):
            return None
        gains = self._gains(new, self._forecast(stairs), stairs).round(9)  # so that ties fall alike
        return self.rows.recipe(new[int(gains.argmax())])

    def _gains(self, rows: Integers, forecast: Forecast, stairs: Stairs) -> Array:
        shares, units = np.empty(len(rows)), self.rows.units(rows)
        for n, precision in enumerate(self.space.precisions):
            if (here := rows[:, -LABELS] == n).any():
                shares[here] = self.tables.shares(units[here], precision)
        means, deviations = forecast.predict(self._points(rows), rows[:, -LABELS:])
        return expected_gain(stairs, shares, means, deviations, at_most=self._dense)

    def _forecast(self, stairs: Stairs) -> Forecast:
        """Of those that lie least below the front, where they are many."""
        measured = np.array(self._measured)
        steps = np.searchsorted([share for share, _ in stairs], measured[:, 0], side="right") - 1
        below = np.array([accuracy for _, accuracy in stairs])[steps] - measured[:, 1]
        learnt = np.argsort(below, kind="stable")[:LEARNT]
        rows = self.rows.of([self._scored[n].recipe for n in learnt])
        return Forecast(self._points(rows), rows[:, -LABELS:], measured[learnt, 1])

    def _points(self, rows: Integers) -> Array:
        """The roots of the damage that each group's cut does alone: (rows, groups)."""
        return np.sqrt(self._damage[np.arange(self._damage.shape[0]), rows[:, :-LABELS]])

    @cached_property
    def _damage(self) -> Array:
        """(groups, most levels)."""
        found = np.zeros((len(self.space.levels), max(map(len, self.space.levels.values()))))
        for n, (group, levels) in enumerate(self.space.levels.items()):
            found[n, : len(levels)] = [self.tables.damage[group][units] for units in levels]
        return found

    def _stairs(self) -> Stairs:
        """The front as (share, accuracy), both ascending, above the floor."""
        stairs = [(0.0, self._floor)]
        for share, accuracy in sorted(self._measured):
            if accuracy > stairs[-1][1] and share < 1:
                stairs.append((share, accuracy))
        return stairs

    def _pool(self, stairs: Stairs, rng: np.random.Generator) -> Integers:
        """What is weighed: solver answers for all budgets, and what is one step from the front."""
        rows = []
        for precision in self._believable:
            for _ in range(DRAWS):
                kept = self._solved(precision, rng)
                rows.append(self.rows.cut(kept, [[self.space.precisions.index(precision), 0, 0]] * len(kept)))
        steps = set(stairs)
        members = [r.recipe for r, point in zip(self._scored, self._measured, strict=True) if point in steps]
        return np.vstack([self.rows.labelled(np.vstack(rows)), self.rows.around(self.rows.of(members))])

    def _solved(self, precision: Precision, rng: np.random.Generator) -> list[dict[str, int]]:
        """Answers, spread over all budgets, to sensitivities around those of the table."""
        groups = list(self.space.levels)
        parts = [SEGMENTS if g in self.space.shared else n * SEGMENTS // len(groups) for n, g in enumerate(groups)]
        logarithms = rng.normal(0.0, SPREAD, SEGMENTS + 1)[parts] + rng.normal(0.0, SPREAD / 2, len(groups))
        found = self.budgets.all(precision, power=rng.uniform(0.5, 1.5), weights=np.exp(logarithms).tolist())
        places = np.unique(np.linspace(0, len(found) - 1, min(ANSWERS, len(found))).astype(int))
        return [found[place] for place in places]


@dataclass(frozen=True)
class Guided:
    """Tables first, then a solver and a forecast."""

    name: str = "guided"
    description: str = "measured latency and error tables, a solver on them, a forecast that learns from trials"
    needs_tables: bool = True

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None) -> Search:
        assert tables is not None
        return GuidedSearch(space, seed, tables)


STRATEGY = Guided()
