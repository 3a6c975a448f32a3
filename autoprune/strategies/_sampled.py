"""Strategies that leave the raw space to a sampler of Optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.strategies._base import Search, question_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import optuna

    from autoprune.pareto import Goals
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Answers
    from autoprune.strategies._tables import Tables

    Make = Callable[[int], optuna.samplers.BaseSampler]
    Seeds = Callable[[BoundSpace], Sequence[Answers]]


class Sampled(Search):
    """Asks ``seeds``, then leaves every choice of every group to the sampler that ``make`` makes of a seed."""

    def __init__(self, space: BoundSpace, seed: int, *, seeds: Sequence[Answers], make: Make) -> None:
        super().__init__(space, seed)
        self._seeds, self._make = seeds, make

    def seeds(self) -> Sequence[Answers]:
        return self._seeds

    def sampler(self, question: int) -> optuna.samplers.BaseSampler:
        return self._make(question_seed(self.seed, question))


@dataclass(frozen=True)
class SampledStrategy:
    """Begins a `Sampled` search: ``seeds`` of the space first, then what ``make`` makes of a seed."""

    name: str
    description: str
    seeds: Seeds
    make: Make
    needs_tables: bool = False

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None, goals: Goals) -> Search:
        """See `Strategy.begin`."""
        return Sampled(space, seed, seeds=self.seeds(space), make=self.make)
