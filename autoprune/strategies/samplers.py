"""Optuna's samplers as strategies, each started from a ladder of uniform cuts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from autoprune.space import BoundSpace

LADDER = (0.75, 0.5, 0.25, 0.125)
INNER = (0.75, 0.5)


def ladder(space: BoundSpace) -> list[dict[str, Any]]:
    """The dense model in each precision, then uniform cuts in each precision with the first way to recover.

    Uniform cuts are what a person tries by hand, of all groups and of those alone that few layers share (cutting the
    stream of a residual network costs most); dense INT8 is the floor that a search has to beat.
    """
    recover = space.space.recover[0].label
    rungs = [(1.0, frozenset[str]()), *((ratio, space.shared) for ratio in INNER if space.shared)]
    rungs += [(ratio, frozenset()) for ratio in LADDER]
    return [
        space.uniform(ratio, precision=precision, recover=recover, whole=whole)
        for ratio, whole in rungs
        for precision in space.precisions
    ]


@dataclass(frozen=True)
class Random:
    """Uniformly random recipes."""

    name: str = "random"
    description: str = "uniformly random recipes; the baseline of every comparison"

    def seeds(self, space: BoundSpace) -> Sequence[Mapping[str, Any]]:
        """The dense model in each precision, nothing else."""
        return ladder(space)[: len(space.precisions)]

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True)
class Tpe:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al. 2020) after the ladder."""

    name: str = "tpe"
    description: str = "uniform ladder, then multi-objective tree-structured Parzen estimator"

    def seeds(self, space: BoundSpace) -> Sequence[Mapping[str, Any]]:
        return ladder(space)

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10)


@dataclass(frozen=True)
class Nsga2:
    """NSGA-II (Deb et al. 2002) after the ladder."""

    name: str = "nsga2"
    description: str = "uniform ladder, then the genetic algorithm NSGA-II"

    def seeds(self, space: BoundSpace) -> Sequence[Mapping[str, Any]]:
        return ladder(space)

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=16)
