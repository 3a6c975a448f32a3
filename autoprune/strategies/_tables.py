"""What table-driven strategies know before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoprune.latency import NOISE, Z95, Regression, kept_units

if TYPE_CHECKING:
    from autoprune.damage import DamageTable
    from autoprune.hardware import Precision
    from autoprune.records import TrialRecord

    Array = npt.NDArray[np.float64]
    Costs = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Tables:
    """Latency and error tables of one model on one device; those of errors are measured when they are first asked for.

    Attributes:
        latency: by precision, what cutting each group saves; as shares of the dense FP32 model's latency.
        measure_damage, measure_importance: give `damage` and `importance`.
    """

    latency: Mapping[Precision, Regression]
    measure_damage: Callable[[], DamageTable]
    measure_importance: Callable[[], Costs]

    @cached_property
    def damage(self) -> Costs:
        """Group id -> units kept -> divergence of the recovered model's output from the dense one's."""
        return self.measure_damage().damage

    @cached_property
    def importance(self) -> Costs:
        """Group id -> units kept -> sum of the removed units' saliencies by first-order Taylor expansion."""
        return self.measure_importance()

    def learn(self, records: Iterable[TrialRecord]) -> None:
        """Correct the latencies by what trials measured."""
        for record in records:
            if record.score and (regression := self.latency.get(record.recipe.precision)):
                latency, dense_ms = record.score.latency, record.score.reference_ms
                share = latency.median_ms / dense_ms
                width = (latency.high_ms - latency.low_ms) / dense_ms
                deviation = np.hypot(width / (2 * Z95), NOISE * share)
                features = regression.features([kept_units(record.recipe)])
                regression.learn(features, np.array([share]), np.array([deviation]))

    def shares(self, units: Array, precision: Precision) -> Array:
        """Predicted shares of many recipes, from the units kept of all groups, (recipes, groups)."""
        regression = self.latency[precision]
        return regression.predict(regression.features_of(units))[0]

    def share(self, kept: Mapping[str, int], precision: Precision) -> tuple[float, float]:
        """Predicted share of the dense FP32 model's latency and its standard deviation; an estimate."""
        regression = self.latency[precision]
        means, unsure = regression.predict(regression.features([kept]))
        return float(means[0]), float(unsure[0])
