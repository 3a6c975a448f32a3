"""What table-driven strategies know before the first trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoprune.latency import NOISE, Z95, Regression, kept_units
from autoprune.solver import Problem

if TYPE_CHECKING:
    from autoprune.damage import DamageTable
    from autoprune.hardware import Precision
    from autoprune.records import TrialRecord
    from autoprune.space import BoundSpace

LATENCY = "latency"


@dataclass(frozen=True)
class Tables:
    """Error and latency tables of one model on one device.

    Attributes:
        damage: what cutting each group does to the output.
        latency: by precision, what cutting each group saves; as shares of the dense FP32 model's latency.
    """

    damage: DamageTable
    latency: Mapping[Precision, Regression]

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

    def share(self, kept: Mapping[str, int], precision: Precision) -> tuple[float, float]:
        """Predicted share of the dense FP32 model's latency and its standard deviation; an estimate."""
        regression = self.latency[precision]
        means, unsure = regression.predict(regression.features([kept]))
        return float(means[0]), float(unsure[0])

    def problem(
        self, space: BoundSpace, precision: Precision, *, power: float = 1.0, weights: Sequence[float] | None = None
    ) -> Problem:
        """The knapsack of one precision: damages as costs, latency shares as spends, levels as in ``space.levels``."""
        regression = self.latency[precision]
        costs = [np.array([self.damage.damage[g][n] for n in levels]) for g, levels in space.levels.items()]
        spends = [
            np.array([0.0 if n == space.sizes[g] else -regression.saving(g, n)[0] for n in levels])
            for g, levels in space.levels.items()
        ]
        dense_share = float(regression.mean[0])
        plain = Problem(costs=costs, spends={LATENCY: spends}, base_spends={LATENCY: dense_share})
        return plain.transformed(power=power, coefficients=weights)
