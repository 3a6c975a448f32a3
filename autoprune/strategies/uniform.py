"""Uniform cuts alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoprune.strategies._ladder import dense, ladder, uniform
from autoprune.strategies._sampled import Sampled

if TYPE_CHECKING:
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Search
    from autoprune.strategies._tables import Tables

RATIOS = 24


@dataclass(frozen=True)
class Uniform:
    """The same ratio everywhere, finely spaced, of all groups and of those alone that few layers share; then random.

    What users of a pruning library do with a loop over ratios.
    """

    name: str = "uniform"
    description: str = "the same keep ratio in every group; what a loop over ratios does"
    needs_tables: bool = False

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None) -> Search:
        import optuna

        ratios = np.linspace(1.0, space.space.keep.min, RATIOS + 1)[1:].tolist()
        seeds = [*dense(space), *ladder(space)]
        for ratio in ratios:
            seeds += uniform(space, [ratio], whole=space.shared) if space.shared else []
            seeds += uniform(space, [ratio])
        unique = list({tuple(sorted(answers.items())): answers for answers in seeds}.values())
        return Sampled(space, seed, seeds=unique, make=lambda own: optuna.samplers.RandomSampler(seed=own))


STRATEGY = Uniform()
