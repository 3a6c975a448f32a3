"""A solver on measured tables, and a forecast that learns from trials what the tables miss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from autoprune.strategies._budgets import COARSE, Budgets
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
WORST_DAMAGE = 4.0  # summed divergence, in nats: the model is lost there; beyond it go only budgets that are asked for
SEGMENTS = 4  # consecutive groups that share a sensitivity
SPREAD = 0.7  # of the logarithms of sensitivities
ANSWERS = 32  # for all budgets to one draw of sensitivities in one precision, of which so many are weighed
STEPS = 500  # from the front that are weighed, at most
AROUND = (0.97, 1.1, 0.86)  # of the share that a speed goal allows: what an opening asks for
TURN = 2  # of as many questions one is about goals that a dense model may meet: all of them were timid, and found less
SURE = 64  # of the most promising, of which it is weighed too how sure their speed is
SPEED_GOALS = ("max_latency_ms", "min_speedup")
LEARNT = 100  # records at most: what a question costs grows with their cube


class GuidedSearch(Search):
    """Solver answers for a ladder of errors, or around a speed that is asked for; then what promises the front most.

    A question weighs some hundred recipes: the solver's answers, for all budgets, to sensitivities that are drawn
    around those of the error table (as SPDY does, Frantar and Alistarh 2022), uniform cuts, and what is one step from
    the front.
    Their latencies (or another cost, where latency is no objective) come from the table, which trials correct, their
    accuracies from a `Forecast`, which trials teach; that with the largest expected gain is tried. (To climb from there
    to where the forecast is highest made searches worse: it is to be trusted near what was tried and along the solver's
    answers, not everywhere.) Where a speed is asked for, latencies count as a standard deviation longer than predicted:
    the most accurate of what seems just fast enough is often what the table takes for too fast.
    """

    def __init__(self, space: BoundSpace, seed: int, tables: Tables, goals: Goals) -> None:
        super().__init__(space, seed)
        self.tables = tables
        # goals are about accuracy and latency
        self.goals = goals if tables.cost.name == "latency_ms" else goals.model_copy(update=dict.fromkeys(SPEED_GOALS))
        self.rows = Rows(space)
        self.budgets = Budgets(space, tables, tables.damage, bearable=WORST_DAMAGE)
        # before trials correct the table, so that a run that is resumed opens alike
        self._beyond = {precision: self.budgets.all(precision, beyond=True) for precision in space.precisions}
        self._answers = {precision: self.budgets.borne(levels) for precision, levels in self._beyond.items()}
        self._fastest = {p: (self._first(p, self._answers[p]), self._first(p, self._beyond[p])) for p in self._answers}
        self._known: set[str] = set()
        self._tried: set[bytes] = set()  # rows that cut something
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
        tried = np.vstack([rows, self.rows.of(pending)])
        self._tried.update(row.tobytes() for row in tried[self._cut(tried)])
        scored = [(n, record.recipe.id, record.score) for n, record in enumerate(new) if record.score]
        self._whole += [new[n] for n, _, _ in scored if not new[n].recipe.choices]
        places = np.searchsorted(self._ids, np.array([name for _, name, _ in scored], dtype=object))
        points = [(self.tables.measured(score), score.accuracy) for _, _, score in scored]
        self._ids = np.insert(self._ids, places, [name for _, name, _ in scored])
        self._scored = np.insert(self._scored, places, rows[[n for n, _, _ in scored]], axis=0)
        self._measured = np.insert(self._measured, places, np.reshape(points, (-1, 2)), axis=0)

    def propose(self, question: int) -> Answers | None:
        with self._pools.limit(limits=1, user_api="blas"):  # matrices this small only wait for other threads
            rng = np.random.default_rng(question_seed(self.seed, question))
            opening = self._towards() if self._too_slow else self._up()
            row = opening if opening is not None else self._most_promising(rng, question)
        if row is None:
            return None
        recipe = self.rows.recipe(row)
        label, kept = self.space.label(recipe), kept_units(recipe)
        return self.space.answers(kept, precision=recipe.precision, criterion=recipe.criterion, recover=label)

    @property
    def _quickest(self) -> Precision:
        """The fastest believable one."""
        return min(self._believable, key=lambda name: self.tables.share({}, name)[0])

    @property
    def _too_slow(self) -> bool:
        """Whether a speed is asked for that no dense model has."""
        _, box = self._boxes
        return box.for_speed and self.tables.share({}, self._quickest)[0] > box.slowest

    @property
    def _goes_beyond(self) -> bool:
        """Whether a speed is asked for that cuts have, but none that is bearable."""
        bearable, fastest = self._fastest[self._quickest]
        _, box = self._boxes
        return box.for_speed and fastest <= box.slowest < bearable

    def _first(self, precision: Precision, levels: Integers) -> float:
        """The share of the first of these answers, which is the fastest."""
        return float(self._shares(self._in_precision(precision, levels[:1]))[0])

    def _up(self) -> Integers | None:
        """The next of the ladder; None where nothing is left of it that has any hope."""
        left = self._ladder[self._new(self._ladder)]
        left = left[~self._hopeless(left)] if len(left) else left
        return left[0] if len(left) else None

    @cached_property
    def _ladder(self) -> Integers:
        """Solver answers by the tables as they were measured."""
        return self._in_precision(self._quickest, self.budgets.within(self._answers[self._quickest], RUNGS))

    def _towards(self) -> Integers | None:
        """A solver answer about as fast as is asked for, by the tables as trials corrected them; None after some."""
        answers = self._beyond if self._goes_beyond else self._answers
        rows = self._in_precision(self._quickest, answers[self._quickest])
        rows, (_, box) = rows[self._new(rows)], self._boxes
        if len(self._tried) >= len(AROUND) or not len(rows):
            return None
        found: Integers = rows[np.abs(self._shares(rows) - AROUND[len(self._tried)] * box.slowest).round(9).argmin()]
        return found

    @cached_property
    def _uniform(self) -> Integers:
        """Levels of uniform cuts, which no sum of errors speaks for."""
        kept = [self.space.near(ratio, whole=self.space.shared) for ratio in INNER] if self.space.shared else []
        kept += [self.space.near(ratio) for ratio in LADDER]
        return self.rows.cut(kept, [[0] * LABELS] * len(kept))[:, :-LABELS]

    def _new(self, rows: Integers) -> Truths:
        """Which of them were not tried; the dense models were seeds."""
        found: Truths = self._cut(rows) & [row.tobytes() not in self._tried for row in rows]
        return found

    def _cut(self, rows: Integers) -> Truths:
        """Which of them cut something."""
        found: Truths = (rows[:, :-LABELS] != self.rows.highest[:-LABELS]).any(axis=1)
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
        by_id = sorted(self._whole, key=lambda record: record.recipe.id)
        whole = [record.score for record in by_id if record.score]
        if not whole:
            return Box(), Box()
        dense, dense_ms = max(score.accuracy for score in whole), whole[0].reference_ms
        box = Box.of(self.goals, dense=dense, dense_ms=dense_ms)
        if box.for_speed:  # of what is fast enough the best counts, however bad it is
            fast = self._measured[self._measured[:, 0] <= box.slowest, 1]
            best = float(fast.max() if len(fast) else self._measured[:, 1].min())
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
        shares = self._shares(new)
        for box in self._asked(question):
            # rounded, so that ties fall alike
            gains = expected_gain(found, shares, means, deviations, box=box).round(9)
            if gains.any():
                break
        few = np.argsort(-gains, kind="stable")[: SURE if box.for_speed else 1]
        slower = shares[few] + self._unsure(new[few])
        surest = expected_gain(found, slower, means[few], deviations[few], box=box).round(9).argmax()
        best: Integers = new[few[surest]]
        return best

    def _asked(self, question: int) -> Sequence[Box]:
        """What the question is about; where nothing promises to gain anything there, the next."""
        general, goals = self._boxes
        return (goals, general) if self._too_slow or question % TURN == 0 else (general,)

    def _shares(self, rows: Integers) -> Array:
        """What the table predicts."""
        return self._by_precision(rows, self.tables.shares)

    def _unsure(self, rows: Integers) -> Array:
        """Standard deviations of that."""
        return self._by_precision(rows, self.tables.deviations)

    def _by_precision(self, rows: Integers, ask: Callable[[Array, Precision], Array]) -> Array:
        found, units = np.empty(len(rows)), self.rows.units(rows)
        for n, precision in enumerate(self.space.precisions):
            if (here := rows[:, -LABELS] == n).any():
                found[here] = ask(units[here], precision)
        return found

    def _in_precision(self, precision: Precision, levels: Integers) -> Integers:
        """Rows of these levels with the first criterion and way to recover."""
        label = [self.space.precisions.index(precision), 0, 0]
        return np.hstack([levels, np.tile(np.array(label, dtype=np.int64), (len(levels), 1))])

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
            self._in_precision(precision, levels)
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
        power, weights = rng.uniform(0.5, 1.5), np.exp(logarithms).tolist()
        found = self.budgets.all(precision, power=power, weights=weights, resolution=COARSE, beyond=self._goes_beyond)
        spread: Integers = found[np.unique(np.linspace(0, len(found) - 1, min(ANSWERS, len(found))).astype(int))]
        return spread


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
