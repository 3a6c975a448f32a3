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
from autoprune.records import Screened, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.recipe import Recipe
    from autoprune.records import TrialRecord
    from autoprune.strategies import Tables

SURE = 2.6  # standard deviations: one in a hundred
SLACK = 0.002  # a cut may gain this much of the metric over the dense model by luck
BIAS = 0.01  # of a predicted latency
SPARED: tuple[Stage, ...] = ("export", "parity", "latency", "memory", "energy", "accuracy")  # by a glance
RECENT = 30  # candidates, and stages whose seconds are told by their median, that say what the next glance is worth


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
        self._hopeless = deque[bool](maxlen=RECENT)
        self._glance_s, self._spared_s = deque[float](maxlen=RECENT), deque[float](maxlen=RECENT)

    def __call__(self, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        """Why it is given up; None where it may reach the front."""
        self._learn()
        return self._beaten(recipe, accuracy, samples)

    def worth_a_glance(self) -> bool:
        """Whether to score the next candidate on some samples is expected to spare more seconds than it takes.

        How many glances end a candidate is told by the last ones, those included at which there was none.
        """
        self._learn()
        if not (self._glance_s and self._spared_s):
            return True
        share = (sum(self._hopeless) + 1) / (len(self._hopeless) + 2)  # Laplace's rule
        return share * median(self._spared_s) > median(self._glance_s)

    def _learn(self) -> None:
        """From records that are new, each judged by those before it."""
        for n, record in enumerate(islice(self.records.values(), self._learnt, None), self._learnt):
            if record.recipe.choices:
                self._time(record)
                if n >= len(self.records) - RECENT:  # a run that is resumed need not judge them all
                    self._judge(record)
            if score := record.score:
                self._add(score.latency.high_ms / score.reference_ms, score.accuracy, record.recipe.id)
        self._learnt = len(self.records)

    def _add(self, share: float, accuracy: float, name: str) -> None:
        """To the front, from which what is no better goes."""
        if not any(high <= share and rate >= accuracy for high, rate, _ in self._front):
            better = [one for one in self._front if one[0] < share or one[1] > accuracy]
            self._front = [*better, (share, accuracy, name)]

    def _time(self, record: TrialRecord) -> None:
        """What a glance cost, and what it would have spared."""
        if "screen" in record.stages:
            self._glance_s.append(record.stages["screen"])
        if record.score:
            self._spared_s.append(sum(record.stages.get(name, 0.0) for name in SPARED))

    def _judge(self, record: TrialRecord) -> None:
        """Whether a glance ended it, or would have."""
        if isinstance(record.outcome, Screened) and record.outcome.accuracy is not None:
            self._hopeless.append(True)
        elif score := record.score:
            found = self._beaten(record.recipe, score.accuracy, min(SCREEN_SAMPLES, score.samples))
            self._hopeless.append(found is not None)

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
