"""Random search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from autoprune.strategies._ladder import dense
from autoprune.strategies._sampled import Sampled

if TYPE_CHECKING:
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Search
    from autoprune.strategies._tables import Tables


@dataclass(frozen=True)
class Random:
    """The dense model in each precision, then uniformly random recipes."""

    name: str = "random"
    description: str = "uniformly random recipes; the baseline of every comparison"
    needs_tables: bool = False

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None) -> Search:
        return Sampled(space, seed, seeds=dense(space), make=lambda own: optuna.samplers.RandomSampler(seed=own))


STRATEGY = Random()
