"""What table-driven strategies know before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoprune.latency import NOISE, Z95, Regression, kept_units
from autoprune.pareto import OBJECTIVES, Objective, interval, value

if TYPE_CHECKING:
    from autoprune.damage import DamageTable
    from autoprune.hardware import Precision
    from autoprune.records import Score, TrialRecord

    Array = npt.NDArray[np.float64]
    Costs = Mapping[str, Mapping[int, float]]


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
        for record in records:
            if record.score and (regression := self.regressions.get(record.recipe.precision)):
                low, share, high = (number / self.whole for number in interval(record.score, self.cost))
                deviation = np.hypot((high - low) / (2 * Z95), NOISE * share)
                features = regression.features([kept_units(record.recipe)])
                regression.learn(features, np.array([share]), np.array([deviation]))

    def measured(self, score: Score) -> float:
        """The share of the dense FP32 model's cost that was measured."""
        return value(score, self.cost) / self.whole

    def shares(self, units: Array, precision: Precision) -> Array:
        """Predicted shares of many recipes, from the units kept of all groups, (recipes, groups); an estimate."""
        regression = self.regressions[precision]
        return regression.predict(regression.features_of(units))[0]

    def share(self, kept: Mapping[str, int], precision: Precision) -> tuple[float, float]:
        """The predicted share of one recipe and its standard deviation; an estimate."""
        regression = self.regressions[precision]
        means, unsure = regression.predict(regression.features([kept]))
        return float(means[0]), float(unsure[0])
