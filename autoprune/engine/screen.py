"""Which candidates cannot reach the front: they are given up before they cost a whole evaluation."""

from __future__ import annotations

from collections import deque
from itertools import islice
from math import inf, sqrt
from statistics import median
from typing import TYPE_CHECKING

from autoprune.evaluate import SCREEN_SAMPLES
from autoprune.latency import kept_units
from autoprune.recipe import DENSE
from autoprune.records import Screened, Stage, Success

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.recipe import Recipe
    from autoprune.records import TrialRecord
    from autoprune.strategies import Tables

SURE = 2.6  # standard deviations: one in a hundred
SLACK = 0.002  # a cut may gain this much of the metric over the dense model by luck
BIAS = 0.01  # of a predicted latency
SPARED: tuple[Stage, ...] = ("export", "parity", "latency", "memory", "energy", "accuracy")  # by a glance
RECENT = 30  # stages whose seconds are told by their median


class Screening:
    """Compares the most that a candidate can be with what is on the front already.

    Its latency is at least the predicted one less its uncertainty. Its accuracy is at most the dense model's and a
    little, until some validation samples were scored; then at most that and ``SURE`` standard deviations of a share.
    Such a glance costs something too; it is taken as long as what it spares pays for it.
    """

    def __init__(self, tables: Tables, records: Mapping[str, TrialRecord]) -> None:
        self.tables = tables
        self.records = records
        self._learnt = 0  # of the records
        self._front: list[tuple[float, float, str]] = []  # the share that it has at most, accuracy, recipe id
        self._candidates = self._hopeless = 0
        self._glance_s, self._spared_s = deque[float](maxlen=RECENT), deque[float](maxlen=RECENT)

    def __call__(self, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        """Why it is given up; None where it may reach the front."""
        self._learn()
        return self._beaten(recipe, accuracy, samples)

    def worth_a_glance(self) -> bool:
        """Whether to score the next candidate on some samples is expected to spare more seconds than it takes.

        How many glances end a candidate is told by all that were tried, those included at which there was none.
        """
        self._learn()
        if not (self._glance_s and self._spared_s):
            return True
        share = (self._hopeless + 1) / (self._candidates + 2)  # Laplace's rule
        return share * median(self._spared_s) > median(self._glance_s)

    def _learn(self) -> None:
        """From records that are new, each judged by those before it."""
        for record in islice(self.records.values(), self._learnt, None):
            self._judge(record)
            if score := record.score:
                self._add(score.latency.high_ms / score.reference_ms, score.accuracy, record.recipe.id)
        self._learnt = len(self.records)

    def _add(self, share: float, accuracy: float, name: str) -> None:
        """To the front, from which what is no better goes."""
        if not any(high <= share and rate >= accuracy for high, rate, _ in self._front):
            worse = [one for one in self._front if share <= one[0] and accuracy >= one[1]]
            self._front = [*(one for one in self._front if one not in worse), (share, accuracy, name)]

    def _judge(self, record: TrialRecord) -> None:
        """Whether a glance ended it, or would have; and what a glance cost, and would have spared."""
        outcome, stages = record.outcome, record.stages
        if not record.recipe.choices:
            return
        if "screen" in stages:
            self._glance_s.append(stages["screen"])
        if isinstance(outcome, Screened) and outcome.accuracy is not None:
            self._candidates, self._hopeless = self._candidates + 1, self._hopeless + 1
        elif isinstance(outcome, Success):
            self._spared_s.append(sum(stages.get(name, 0.0) for name in SPARED))
            found = self._beaten(record.recipe, outcome.score.accuracy, min(SCREEN_SAMPLES, outcome.score.samples))
            self._candidates, self._hopeless = self._candidates + 1, self._hopeless + (found is not None)

    def _beaten(self, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        if not recipe.choices:
            return None
        share, unsure = self.tables.share(kept_units(recipe), recipe.precision)
        least, most = share * (1 - BIAS) - SURE * unsure, self._at_most(accuracy, samples)
        rival = next((name for high, rate, name in self._front if rate > most and high < least), None)
        if rival is None:
            return None
        return Screened(share=max(share, 1e-6), accuracy=accuracy, samples=samples, beaten_by=rival)

    def _at_most(self, accuracy: float | None, samples: int) -> float:
        dense = self.records.get(DENSE.id)
        most = dense.score.accuracy + SLACK if dense and dense.score else inf
        if accuracy is None:
            return most
        if not 0 <= accuracy <= 1:  # not a share of samples, so that nothing is known of its noise
            return inf
        # Laplace's rule keeps the deviation above zero where all or none are right
        rate = (accuracy * samples + 1) / (samples + 2)
        return accuracy + SURE * sqrt(rate * (1 - rate) / samples)
