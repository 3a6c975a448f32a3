"""Optuna over a solver that works on measured tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from autoprune.pareto import front, objectives
from autoprune.solver import neighbours
from autoprune.strategies._base import Search, question_seed
from autoprune.strategies._budgets import LATENCY, Budgets
from autoprune.strategies._ladder import dense

if TYPE_CHECKING:
    from autoprune.recipe import Recipe
    from autoprune.records import TrialRecord
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Answers, Records
    from autoprune.strategies._tables import Tables

RUNGS = 8  # budgets of the first ladder, in each precision
WORST_DAMAGE = 4.0  # summed divergence, in nats, beyond which no budget goes: the model is lost there
SEGMENTS = 4  # consecutive groups that share a sensitivity
NEAREST = 12  # neighbours of a front member that a local move draws from
TRADE_OFF = objectives(("accuracy", "latency_ms"))


class GuidedSearch(Search):
    """Solver answers for a ladder of budgets, then in turn a solver answer and a local move around the front.

    Source: SPDY (Frantar and Alistarh 2022) for the search over sensitivities above a dynamic programme. Unlike there
    the tables are corrected by what trials measure, and budgets are of measured latency.
    """

    def __init__(self, space: BoundSpace, seed: int, tables: Tables) -> None:
        super().__init__(space, seed)
        self.tables = tables
        self.budgets = Budgets(space, tables, tables.damage, bearable=WORST_DAMAGE)
        self.records: dict[str, TrialRecord] = {}

    def seeds(self) -> Sequence[Answers]:
        """The dense models, then the ladder, from the mildest budget on, by the tables as they were measured."""
        found = [{"move": "raw", **answers} for answers in dense(self.space)]
        for rung in range(1, RUNGS + 1):
            for precision in self.space.precisions:
                kept = self.budgets.solve(precision, rung / RUNGS)
                found.append({"move": "raw", **self.space.answers(kept, precision=precision)})
        return list({str(sorted(answers.items())): answers for answers in found}.values())

    def learn(self, records: Records) -> None:
        new = {recipe: record for recipe, record in sorted(records.items()) if recipe not in self.records}
        self.tables.learn(new.values())
        self.records.update(new)

    def propose(self, question: int) -> Answers:
        members = [m for m in front(self.records.values(), TRADE_OFF) if m.recipe.choices] if question % 2 else []
        if not members:
            return {"move": "solve"}
        rng = np.random.default_rng(question_seed(self.seed, question))
        parent = members[rng.integers(len(members))].recipe
        if (kept := self._near(parent, rng)) is None:
            return {"move": "solve"}
        answers = self.space.answers(
            kept, precision=parent.precision, criterion=parent.criterion, recover=self.space.label(parent)
        )
        return {"move": "raw", **answers}

    def sampler(self, question: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=question_seed(self.seed, question), n_startup_trials=10)

    def suggest(self, trial: optuna.Trial) -> Recipe:
        if trial.suggest_categorical("move", ["solve", "raw"]) == "raw":
            return self.space.suggest(trial)
        precision = _of(trial, "precision", self.space.precisions)
        budget, power = trial.suggest_float("budget", 0.0, 1.0), trial.suggest_float("power", 0.5, 1.5)
        weights = [trial.suggest_float(f"weight/{n}", -1.0, 1.0) for n in range(SEGMENTS + bool(self.space.shared))]
        kept = self.budgets.solve(precision, budget, power=power, weights=self._spread(weights))
        recipe = self.space.recipe(
            kept,
            criterion=_of(trial, "criterion", self.space.space.criterion),
            precision=precision,
            recover=_of(trial, "recover", [choice.label for choice in self.space.space.recover]),
        )
        if recipe.id not in self.records:
            return recipe
        near = self._near(recipe, np.random.default_rng(int(recipe.id, 16)))
        return recipe if near is None else self._like(recipe, near)

    def _spread(self, weights: Sequence[float]) -> list[float]:
        """A coefficient for each group: of its segment, or of the groups that many layers share."""
        groups = list(self.space.levels)
        spread = []
        for n, group in enumerate(groups):
            segment = SEGMENTS if group in self.space.shared else n * SEGMENTS // len(groups)
            spread.append(float(np.exp(weights[segment])))
        return spread

    def _near(self, parent: Recipe, rng: np.random.Generator) -> dict[str, int] | None:
        """Units kept by a recipe near ``parent`` that was not tried yet; one of the least damaging by the tables."""
        problem = self.budgets.problem(parent.precision)
        levels = [
            known.index(parent.choices[group].units) if group in parent.choices else len(known) - 1
            for group, known in self.space.levels.items()
        ]
        budget = problem.choice(levels).spends[LATENCY] * rng.uniform(0.97, 1.03)
        near = map(self.budgets.kept, neighbours(problem, levels, budgets={LATENCY: budget}))
        new = list(islice((kept for kept in near if self._like(parent, kept).id not in self.records), NEAREST))
        return new[rng.integers(len(new))] if new else None

    def _like(self, parent: Recipe, kept: Mapping[str, int]) -> Recipe:
        return self.space.recipe(
            kept, criterion=parent.criterion, precision=parent.precision, recover=self.space.label(parent)
        )


def _of(trial: optuna.Trial, name: str, options: Sequence[Any]) -> Any:
    return options[0] if len(options) == 1 else trial.suggest_categorical(name, list(options))


@dataclass(frozen=True)
class Guided:
    """Tables first, then a solver, with Optuna above it."""

    name: str = "guided"
    description: str = "measured latency and error tables, a solver on them, Optuna and local moves above it"
    needs_tables: bool = True

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None) -> Search:
        assert tables is not None
        return GuidedSearch(space, seed, tables)


STRATEGY = Guided()
