"""What every report is made of: one value, filled by the engine, that needs neither the model nor the device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal, Protocol

from autoprune.pareto import Goals, Objective, best, front, hypervolume, normalised
from autoprune.recipe import DENSE, Recipe
from autoprune.records import Score, Screened, TrialRecord

Split = Literal["validation", "test"]


class OperatorTime(Protocol):
    """What one node of an exported graph costs; see ``Device.profile_operators``."""

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def op_type(self) -> str:
        """Its operator, such as ``Conv``."""

    @property
    def time_us(self) -> float:
        """Microseconds per inference."""


@dataclass(frozen=True)
class Finalist:
    """A candidate as it was measured at the end, beside the other finalists.

    Attributes:
        score: its final measurement; ``score.accuracy`` is on ``split``.
        accuracy_validation: on the split that the search saw.
        kept: group id -> units that stay, for every group.
        operators: per node of the exported graph; () where not profiled.
        model: path of its artifact, relative to the run directory; None while it is not exported.
        estimated_ms: the latency that the search went by, where it was measured only afterwards.
    """

    recipe: Recipe
    score: Score
    split: Split
    accuracy_validation: float
    kept: Mapping[str, int] = field(default_factory=dict)
    operators: tuple[OperatorTime, ...] = ()
    model: str | None = None
    estimated_ms: float | None = None

    @classmethod
    def provisional(cls, record: TrialRecord) -> "Finalist":
        """A successful record of a search that goes on: as the search measured it, not exported yet."""
        assert record.score is not None
        kept = {group: choice.units for group, choice in record.recipe.choices.items()}
        return cls(record.recipe, record.score, "validation", record.score.accuracy, kept)


@dataclass(frozen=True)
class Progress:
    """Hypervolume of everything tried until then; ``trial`` counts from 1."""

    trial: int
    seconds: float
    value: float


@dataclass(frozen=True)
class RunReport:
    """A run, finished or not.

    Attributes:
        directory: of the run, as the user names it; only printed.
        dense: the dense FP32 model, measured like the finalists.
        finalists: the other candidates that were measured at the end, in any order; those on the front of a search
            that goes on.
        records: one per recipe that was asked for, in order, the dense model's among them.
        groups: id -> units in the dense model, in the order of the graph.
        circumstances: device facts, versions, timing policy, seed...: what is needed to judge and repeat the numbers.
        warnings: sentences for the user.
    """

    task: str
    target: str
    directory: str
    started_at: str
    finished: bool
    dense: Finalist
    finalists: tuple[Finalist, ...]
    records: tuple[TrialRecord, ...]
    objectives: tuple[Objective, ...]
    goals: Goals
    groups: Mapping[str, int]
    circumstances: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @cached_property
    def tried(self) -> list[TrialRecord]:
        """The records of recipes that were not screened out."""
        return [record for record in self.records if not isinstance(record.outcome, Screened)]

    @cached_property
    def front(self) -> list[Finalist]:
        """Those that no other dominates, by their final scores, fastest first; the dense model competes."""
        return front((self.dense, *self.finalists), self.objectives)

    @cached_property
    def chosen(self) -> Finalist:
        """The model to recommend."""
        return best(self.front, self.objectives, goals=self.goals, dense=self.dense.score)

    @cached_property
    def misses(self) -> list[str]:
        """The goals that the chosen model misses, in words."""
        return self.goals.misses(self.chosen.score, self.dense.score)

    @cached_property
    def progress(self) -> list[Progress]:
        """How the hypervolume grew, trial by trial, by the scores that the search saw."""
        dense = next((r.score for r in self.records if r.recipe.id == DENSE.id and r.score), self.dense.score)
        began, reference = datetime.fromisoformat(self.started_at), [1.0] * len(self.objectives)
        points: list[tuple[float, ...]] = []
        steps: list[Progress] = []
        for trial, record in enumerate(self.tried, 1):
            volume = steps[-1].value if steps else 0.0
            if record.score:
                point = normalised(record.score, dense, self.objectives)
                if not any(all(a <= b for a, b in zip(known, point, strict=True)) for known in points):
                    points.append(point)
                    volume = hypervolume(points, reference)
            seconds = (datetime.fromisoformat(record.finished_at) - began).total_seconds()
            steps.append(Progress(trial, max(seconds, 0.0), volume))
        return steps
