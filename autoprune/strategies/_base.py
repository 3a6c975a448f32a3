"""The contract of a strategy, and the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import optuna

from autoprune.plugins import by_name, load, pick, shipped

if TYPE_CHECKING:
    from autoprune.pareto import Goals
    from autoprune.recipe import Recipe
    from autoprune.records import TrialRecord
    from autoprune.space import BoundSpace
    from autoprune.strategies._tables import Tables

    Answers = Mapping[str, Any]
    Records = Mapping[str, TrialRecord]

ENTRY_POINTS = "autoprune.strategies"


class Search:
    """One search: decides which recipe is tried next; knows neither torch nor devices.

    It keeps nothing between two questions but what the records hold, so that a run that was killed goes on as if it had
    not been: whatever is random depends on the run's seed and the question's number.
    """

    def __init__(self, space: BoundSpace, seed: int) -> None:
        self.space = space
        self.seed = seed

    def seeds(self) -> Sequence[Answers]:
        """Answers (parameter name -> value) to ask for before anything else."""
        return ()

    def learn(self, records: Records, *, pending: Sequence[Recipe] = ()) -> None:
        """Told before every question of everything that is known, by recipe id, and of recipes that are being tried.

        To propose one of these once more ends the trying of several at once until its result is there.
        """

    def propose(self, question: int) -> Answers | None:
        """Answers for this question, or some of them; None leaves all to the sampler."""
        return None

    def sampler(self, question: int) -> optuna.samplers.BaseSampler:
        """What answers where `propose` does not."""
        return optuna.samplers.RandomSampler(seed=question_seed(self.seed, question))

    def suggest(self, trial: optuna.Trial) -> Recipe:
        """The recipe of a trial's answers."""
        return self.space.suggest(trial)


class Strategy(Protocol):
    """Makes searches; an entry point of ``autoprune.strategies`` names an instance.

    Attributes:
        name: how users call it; the name of its file or entry point.
        description: one line.
        needs_tables: whether it works on latency and error tables, which are then measured before the first trial.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def needs_tables(self) -> bool: ...

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None, goals: Goals) -> Search:
        """A search of ``space``; ``tables`` where they are needed. ``goals`` are the user's: a hint where to look."""
        ...


@cache
def _known() -> dict[str, Strategy]:
    known = by_name(shipped("autoprune.strategies", "STRATEGY"), group=ENTRY_POINTS, plural="strategies")
    return {name: cast(Strategy, load(entry)) for name, entry in known.items()}


def strategies() -> list[Strategy]:
    """All strategies, by name. Raises UsageError when two have the same name or a plug-in cannot be loaded."""
    return list(_known().values())


def strategy(name: str) -> Strategy:
    """The strategy of that name. Raises UsageError that lists the known ones when there is none."""
    return pick(_known(), name, "strategy")


def question_seed(seed: int, question: int) -> int:
    """A seed for one question that depends on the run's seed and the question's number alone."""
    return int(np.random.SeedSequence((seed, question)).generate_state(1)[0])
