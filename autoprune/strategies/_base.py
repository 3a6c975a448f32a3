"""The contract of a strategy."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna

from autoprune.space import BoundSpace


class Strategy(Protocol):
    """Decides which recipe is tried next; knows neither torch nor devices.

    A strategy keeps nothing between two questions but what the study holds, so that a run that was killed goes on as if
    it had not been: every sampler is made afresh from a seed that depends on the run's seed and the question's number.
    """

    @property
    def name(self) -> str:
        """How users call it."""
        ...

    @property
    def description(self) -> str:
        """One line."""
        ...

    def seeds(self, space: BoundSpace) -> Sequence[Mapping[str, Any]]:
        """Answers to ask for before anything else."""
        ...

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """The sampler for one question."""
        ...


def question_seed(seed: int, answered: int) -> int:
    """A seed for one question that depends on the run's seed and the question's number alone."""
    return int(np.random.SeedSequence((seed, answered)).generate_state(1)[0])
