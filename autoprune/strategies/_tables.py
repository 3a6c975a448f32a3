"""What table-driven strategies know before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoprune.latency import Regression, kept_units, measurement_noise
from autoprune.pareto import OBJECTIVES, Objective, interval, value

if TYPE_CHECKING:
    from autoprune.damage import DamageTable
    from autoprune.hardware import Precision
    from autoprune.recipe import Recipe
    from autoprune.records import Score, TrialRecord

    Array = npt.NDArray[np.float64]
    Costs = Mapping[str, Mapping[int, float]]

BATCH = 64  # records that a regression learns at a time: what that takes grows with their square


@dataclass(frozen=True)
class Tables:
    """What cuts cost and save, of one model on one device; error tables are measured when they are first asked for.

    Attributes:
        regressions: by precision, what cutting each group saves; as shares of what the dense FP32 model costs.
        measure_damage, measure_importance: give `damage` and `importance`.
        cost: the objective whose savings these are.
        whole: its value for the dense FP32 model, as `autoprune.pareto.value` gives it: 1 for latency.
    """

    regressions: Mapping[Precision, Regression]
    measure_damage: Callable[[], DamageTable]
    measure_importance: Callable[[], Costs]
    cost: Objective = OBJECTIVES["latency_ms"]
    whole: float = 1.0

    @cached_property
    def damage(self) -> Costs:
        """Group id -> units kept -> divergence of the recovered model's output from the dense one's."""
        return self.measure_damage().damage

    @cached_property
    def importance(self) -> Costs:
        """Group id -> units kept -> sum of the removed units' saliencies by first-order Taylor expansion."""
        return self.measure_importance()

    def learn(self, records: Iterable[TrialRecord]) -> None:
        """Correct the regressions by what trials measured."""
        scores: dict[Precision, list[tuple[Recipe, Score]]] = {}
        for record in records:
            if record.score and record.recipe.precision in self.regressions:
                scores.setdefault(record.recipe.precision, []).append((record.recipe, record.score))
        for precision, known in scores.items():
            for start in range(0, len(known), BATCH):
                self._learn(self.regressions[precision], known[start : start + BATCH])

    def _learn(self, regression: Regression, known: Sequence[tuple[Recipe, Score]]) -> None:
        low, shares, high = np.array([interval(score, self.cost) for _, score in known]).T / self.whole
        features = regression.features([kept_units(recipe) for recipe, _ in known])
        regression.learn(features, shares, measurement_noise(low, shares, high))

    def measured(self, score: Score) -> float:
        """The share of the dense FP32 model's cost that was measured."""
        return value(score, self.cost) / self.whole

    def shares(self, units: Array, precision: Precision) -> Array:
        """Predicted shares of many recipes, from the units kept of all groups, (recipes, groups); an estimate."""
        return self.regressions[precision].expect(units)

    def deviations(self, units: Array, precision: Precision) -> Array:
        """The standard deviations of `shares`."""
        regression = self.regressions[precision]
        return regression.predict(regression.features_of(units))[1]

    def share(self, kept: Mapping[str, int], precision: Precision) -> tuple[float, float]:
        """The predicted share of one recipe and its standard deviation; an estimate."""
        regression = self.regressions[precision]
        means, unsure = regression.predict(regression.features([kept]))
        return float(means[0]), float(unsure[0])
