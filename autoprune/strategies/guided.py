"""A solver on measured tables, and a forecast that learns from trials what the tables miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from autoprune.latency import kept_units
from autoprune.pareto import Goals
from autoprune.strategies._base import Search, question_seed
from autoprune.strategies._box import CLOSE, Box
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

    Front = list[tuple[float, float]]

Array = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
RUNGS = (0.01, 0.03, 0.08, 0.2, 0.5, 1.2)  # summed divergences of the opening, in nats
WORST_DAMAGE = 4.0  # summed divergence, in nats, beyond which no budget goes: the model is lost there
SEGMENTS = 4  # consecutive groups that share a sensitivity
SPREAD = 0.7  # of the logarithms of sensitivities
ANSWERS = 32  # for all budgets to one draw of sensitivities in one precision, of which so many are weighed
STEPS = 500  # from the front that are weighed, at most
TURN = 2  # of as many questions one is about the goals, where there are any: all of them were timid, and found less
SPEED_GOALS = ("max_latency_ms", "min_speedup")
LEARNT = 100  # records at most: what a question costs grows with their cube


class GuidedSearch(Search):
    """Solver answers for a ladder of errors; then whatever promises the front most.

    A question weighs some hundred recipes: the solver's answers, for all budgets, to sensitivities that are drawn
    around those of the error table (as SPDY does, Frantar and Alistarh 2022), uniform cuts, and what is one step from
    the front.
    Their latencies (or another cost, where latency is no objective) come from the table, which trials correct, their
    accuracies from a `Forecast`, which trials teach; that with the largest expected gain is tried. (To climb from there
    to where the forecast is highest made searches worse: it is to be trusted near what was tried and along the solver's
    answers, not everywhere.)
    """

    def __init__(self, space: BoundSpace, seed: int, tables: Tables, goals: Goals) -> None:
        super().__init__(space, seed)
        self.tables = tables
        # goals are about accuracy and latency
        self.goals = goals if tables.cost.name == "latency_ms" else goals.model_copy(update=dict.fromkeys(SPEED_GOALS))
        self.rows = Rows(space)
        self.budgets = Budgets(space, tables, tables.damage, bearable=WORST_DAMAGE)
        # before trials correct the table, so that a run that is resumed opens alike
        self._rungs = {precision: self.budgets.at_costs(precision, RUNGS) for precision in space.precisions}
        self._known: set[str] = set()
        self._tried: set[bytes] = set()  # rows
        self._whole: list[TrialRecord] = []  # those that were scored and cut nothing
        # of all that were scored, by recipe id, so that their order does not depend on when they came
        self._ids = np.empty(0, dtype=object)
        self._scored = self.rows.of([])
        self._measured = np.empty((0, 2))  # shares and accuracies
        self._pools = ThreadpoolController()

    def seeds(self) -> Sequence[Answers]:
        """The dense model in each precision."""
        return dense(self.space)

    def learn(self, records: Records, *, pending: Sequence[Recipe] = ()) -> None:
        names = sorted(records.keys() - self._known)
        self._known.update(names)
        new = [records[name] for name in names]
        # without the dense FP32 model, where the space is without FP32
        new = [record for record in new if record.recipe.precision in self.space.precisions]
        self.tables.learn(new)
        rows = self.rows.of([record.recipe for record in new])
        self._tried.update(row.tobytes() for row in [*rows, *self.rows.of(pending)])
        scored = [(n, record.recipe.id, record.score) for n, record in enumerate(new) if record.score]
        self._whole += [new[n] for n, _, _ in scored if not new[n].recipe.choices]
        places = np.searchsorted(self._ids, np.array([name for _, name, _ in scored], dtype=object))
        points = [(self.tables.measured(score), score.accuracy) for _, _, score in scored]
        self._ids = np.insert(self._ids, places, [name for _, name, _ in scored])
        self._scored = np.insert(self._scored, places, rows[[n for n, _, _ in scored]], axis=0)
        self._measured = np.insert(self._measured, places, np.reshape(points, (-1, 2)), axis=0)

    def propose(self, question: int) -> Answers | None:
        left = self._opening[self._new(self._opening)]
        left = left[~self._hopeless(left)] if len(left) else left
        with self._pools.limit(limits=1, user_api="blas"):  # matrices this small only wait for other threads
            rng = np.random.default_rng(question_seed(self.seed, question))
            row = left[0] if len(left) else self._most_promising(rng, question)
        if row is None:
            return None
        recipe = self.rows.recipe(row)
        label, kept = self.space.label(recipe), kept_units(recipe)
        return self.space.answers(kept, precision=recipe.precision, criterion=recipe.criterion, recover=label)

    @cached_property
    def _opening(self) -> Integers:
        """Solver answers by the tables as they were measured, in the fastest believable precision."""
        precision = min(self._believable, key=lambda name: self.tables.share({}, name)[0])
        return _labelled(self._rungs[precision], [self.space.precisions.index(precision), 0, 0])

    @cached_property
    def _uniform(self) -> Integers:
        """Levels of uniform cuts, which no sum of errors speaks for."""
        kept = [self.space.near(ratio, whole=self.space.shared) for ratio in INNER] if self.space.shared else []
        kept += [self.space.near(ratio) for ratio in LADDER]
        return self.rows.cut(kept, [[0] * LABELS] * len(kept))[:, :-LABELS]

    def _new(self, rows: Integers) -> Truths:
        """Which of them were not tried; the dense models were seeds."""
        cut = (rows[:, :-LABELS] != self.rows.highest[:-LABELS]).any(axis=1)
        found: Truths = cut & [row.tobytes() not in self._tried for row in rows]
        return found

    def _hopeless(self, rows: Integers) -> Truths:
        """Which of them are faster than something that was already too bad to count."""
        useless = self._measured[self._measured[:, 1] < self._floor]
        found: Truths = self._shares(rows) <= useless[:, 0].max(initial=-np.inf)
        return found

    @property
    def _believable(self) -> list[Precision]:
        """Precisions in which the dense model is; all where none was tried."""
        scores = {record.recipe.precision: record.score for record in self._whole}
        good = [p for p, score in scores.items() if score and score.accuracy >= self._floor]
        return [p for p in self.space.precisions if p in good] or list(self.space.precisions)

    @property
    def _boxes(self) -> tuple[Box, Box]:
        """What counts without goals, and with them; more accuracy than the dense models have is luck."""
        whole = [record.score for record in self._whole if record.score]
        if not whole:
            return Box(), Box()
        dense, dense_ms = max(score.accuracy for score in whole), whole[0].reference_ms
        box = Box.of(self.goals, dense=dense, dense_ms=dense_ms)
        if box.fastest > 0:  # of what is fast enough the best counts, however bad it is
            fast = self._measured[self._measured[:, 0] <= box.slowest, 1]
            best = float(fast.max()) if len(fast) else np.inf
            box = replace(box, least=min(box.least, best - CLOSE * abs(dense)))
        return Box.of(Goals(), dense=dense, dense_ms=dense_ms), box

    @property
    def _floor(self) -> float:
        """The least accuracy that counts."""
        return min(box.least for box in self._boxes)

    def _most_promising(self, rng: np.random.Generator, question: int) -> Integers | None:
        """The recipe of the largest expected gain; None where nothing new is left."""
        if not len(self._scored):
            return None
        front = self._front()
        pool = self._pool(front, rng)
        new = pool[self._new(pool)]
        if not len(new):
            return None
        found = [*map(tuple, self._measured[front].tolist())]
        means, deviations = self._forecast(found).predict(self._points(new), new[:, -LABELS:])
        box = self._boxes[question % TURN == 0]
        gains = expected_gain(found, self._shares(new), means, deviations, box=box)
        best: Integers = new[int(gains.round(9).argmax())]  # so that ties fall alike
        return best

    def _shares(self, rows: Integers) -> Array:
        """What the table predicts."""
        shares, units = np.empty(len(rows)), self.rows.units(rows)
        for n, precision in enumerate(self.space.precisions):
            if (here := rows[:, -LABELS] == n).any():
                shares[here] = self.tables.shares(units[here], precision)
        return shares

    def _forecast(self, front: Front) -> Forecast:
        """Of those that lie least below the front, where they are many."""
        shares, accuracies = self._measured.T
        stairs = [(0.0, self._floor), *front]
        steps = np.searchsorted([share for share, _ in stairs], shares, side="right") - 1
        below = np.array([accuracy for _, accuracy in stairs])[steps] - accuracies
        learnt = np.argsort(below, kind="stable")[:LEARNT]
        rows = self._scored[learnt]
        return Forecast(self._points(rows), rows[:, -LABELS:], accuracies[learnt])

    def _points(self, rows: Integers) -> Array:
        """The roots of the damage that each group's cut does alone: (rows, groups)."""
        return np.sqrt(self.budgets.by_level(rows[:, :-LABELS]))

    def _front(self) -> Integers:
        """Places of what is faster than the dense model and more accurate than all that is faster, ascending."""
        order = np.lexsort(self._measured.T[::-1])
        shares, accuracies = self._measured[order].T
        before = np.maximum.accumulate(np.append(self._floor, accuracies))[:-1]
        found: Integers = order[(accuracies > before) & (shares < 1)]
        return found

    def _pool(self, front: Integers, rng: np.random.Generator) -> Integers:
        """What is weighed: solver answers for all budgets, uniform cuts, and what is one step from the front."""
        rows = [
            _labelled(levels, [self.space.precisions.index(precision), 0, 0])
            for precision in self._believable
            for levels in (self._solved(precision, rng), self._uniform)
        ]
        steps = rng.permutation(self.rows.around(self._scored[front]))[:STEPS]
        return np.vstack([self.rows.labelled(np.vstack(rows)), steps])

    def _solved(self, precision: Precision, rng: np.random.Generator) -> Integers:
        """Answers, spread over all budgets, to sensitivities around those of the table."""
        groups = list(self.space.levels)
        parts = [SEGMENTS if g in self.space.shared else n * SEGMENTS // len(groups) for n, g in enumerate(groups)]
        logarithms = rng.normal(0.0, SPREAD, SEGMENTS + 1)[parts] + rng.normal(0.0, SPREAD / 2, len(groups))
        found = self.budgets.all(precision, power=rng.uniform(0.5, 1.5), weights=np.exp(logarithms).tolist())
        spread: Integers = found[np.unique(np.linspace(0, len(found) - 1, min(ANSWERS, len(found))).astype(int))]
        return spread


def _labelled(levels: Integers, label: Sequence[int]) -> Integers:
    """Rows of these levels, with one label."""
    return np.hstack([levels, np.tile(np.array(label, dtype=np.int64), (len(levels), 1))])


@dataclass(frozen=True)
class Guided:
    """Tables first, then a solver and a forecast."""

    name: str = "guided"
    description: str = "measured latency and error tables, a solver on them, a forecast that learns from trials"
    needs_tables: bool = True

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None, goals: Goals) -> Search:
        assert tables is not None
        return GuidedSearch(space, seed, tables, goals)


STRATEGY = Guided()
