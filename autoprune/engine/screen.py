"""Which candidates cannot reach the front: they are given up before they cost a whole evaluation."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from autoprune.latency import kept_units
from autoprune.recipe import DENSE
from autoprune.records import Screened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.recipe import Recipe
    from autoprune.records import TrialRecord
    from autoprune.strategies import Tables

SURE = 2.6  # standard deviations: one in a hundred
SLACK = 0.002  # a cut may gain this much of the metric over the dense model by luck
BIAS = 0.01  # of a predicted latency


class Screening:
    """Compares the most that a candidate can be with what is on the front already.

    Its latency is at least the predicted one less its uncertainty. Its accuracy is at most the dense model's and a
    little, until some validation samples were scored; then at most that and ``SURE`` standard deviations of a share.
    """

    def __init__(self, tables: Tables, records: Mapping[str, TrialRecord]) -> None:
        self.tables = tables
        self.records = records

    def __call__(self, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        """Why it is given up; None where it may reach the front."""
        if not recipe.choices:
            return None
        share, unsure = self.tables.share(kept_units(recipe), recipe.precision)
        rival = self._rival(share * (1 - BIAS) - SURE * unsure, self._at_most(accuracy, samples))
        if rival is None:
            return None
        return Screened(share=max(share, 1e-6), accuracy=accuracy, samples=samples, beaten_by=rival)

    def _rival(self, share: float, accuracy: float) -> str | None:
        for record in self.records.values():
            score = record.score
            if score and score.accuracy > accuracy and score.latency.high_ms / score.reference_ms < share:
                return record.recipe.id
        return None

    def _at_most(self, accuracy: float | None, samples: int) -> float:
        dense = self.records.get(DENSE.id)
        most = dense.score.accuracy + SLACK if dense and dense.score else float("inf")
        if accuracy is None:
            return most
        if not 0 <= accuracy <= 1:  # not a share of samples, so that nothing is known of its noise
            return float("inf")
        # Laplace's rule keeps the deviation above zero where all or none are right
        rate = (accuracy * samples + 1) / (samples + 2)
        return accuracy + SURE * sqrt(rate * (1 - rate) / samples)
