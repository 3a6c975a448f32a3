"""Tree-structured Parzen estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from autoprune.strategies._ladder import ladder
from autoprune.strategies._sampled import Sampled

if TYPE_CHECKING:
    from autoprune.space import BoundSpace
    from autoprune.strategies._base import Search
    from autoprune.strategies._tables import Tables


@dataclass(frozen=True)
class Tpe:
    """Multi-objective TPE (Ozaki et al. 2020) over every choice of every group, after a ladder of uniform cuts.

    Of a study of more than 256 trials it reads the best and the latest.
    """

    name: str = "tpe"
    description: str = "uniform ladder, then multi-objective tree-structured Parzen estimator"
    needs_tables: bool = False

    def begin(self, space: BoundSpace, *, seed: int, tables: Tables | None) -> Search:
        return Sampled(
            space,
            seed,
            seeds=ladder(space),
            make=lambda own: optuna.samplers.TPESampler(seed=own, n_startup_trials=10),
        )


STRATEGY = Tpe()
