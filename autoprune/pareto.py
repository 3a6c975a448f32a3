"""Fronts beyond the noise of the measurement, hypervolume, knee, goals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field, PositiveFloat

from autoprune.documents import Strict
from autoprune.errors import UsageError
from autoprune.records import Score, TrialRecord


@dataclass(frozen=True)
class Objective:
    """One thing to optimise; ``unit`` is for people."""

    name: str
    maximize: bool
    unit: str


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("accuracy", True, ""),
        Objective("latency_ms", False, "ms"),
        Objective("size_bytes", False, "bytes"),
        Objective("peak_memory_bytes", False, "bytes"),
        Objective("macs", False, "MACs"),
        Objective("parameters", False, "parameters"),
    )
}


def objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of those names.

    Raises:
        UsageError: one is unknown or named twice, or they are not two or three.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise UsageError(f"Unknown objective '{name}': choose two or three of {', '.join(OBJECTIVES)}.")
    if len(set(names)) != len(names) or not 2 <= len(names) <= 3:
        raise UsageError(f"A search needs two or three different objectives, not {', '.join(names) or 'none'}.")
    return tuple(OBJECTIVES[name] for name in names)


def value(score: Score, objective: Objective) -> float:
    """The value of ``objective``; the latency is relative to the reference model timed beside it (see `latency_ms`)."""
    if objective.name == "latency_ms":
        return score.latency.median_ms
    found = getattr(score, objective.name)
    if found is None:
        raise UsageError(f"'{objective.name}' was not measured in this run.")
    return float(found)


def interval(score: Score, objective: Objective) -> tuple[float, float]:
    """Between which values the objective lies: the 95 % interval of a measured latency, the value itself otherwise.

    Accuracy counts as exact here: every candidate is scored on the same samples, so a difference is one of these samples,
    and how far it holds for others is the test split's question.
    """
    if objective.name == "latency_ms":
        return score.latency.low_ms, score.latency.high_ms
    exact = value(score, objective)
    return exact, exact


def dominates(one: Score, other: Score, over: Sequence[Objective]) -> bool:
    """Whether ``one`` is no worse in every objective and better beyond the noise in at least one.

    Better beyond the noise: the intervals do not touch. No worse: by the values themselves.
    """
    beyond = False
    for objective in over:
        sign = 1.0 if objective.maximize else -1.0
        if sign * value(one, objective) < sign * value(other, objective):
            return False
        mine, theirs = interval(one, objective), interval(other, objective)
        beyond |= mine[0] > theirs[1] if objective.maximize else mine[1] < theirs[0]
    return beyond


def front(records: Iterable[TrialRecord], over: Sequence[Objective]) -> list[TrialRecord]:
    """The records that no other dominates, in the order of the last objective's value, then of recipe ids."""
    scored = [(record, record.score) for record in records if record.score]
    kept = [
        (record, score) for record, score in scored if not any(dominates(other, score, over) for _, other in scored)
    ]
    return [record for record, score in sorted(kept, key=lambda pair: (value(pair[1], over[-1]), pair[0].recipe.id))]


class Goals(Strict):
    """What the user wants of a model; None is no wish."""

    max_accuracy_drop: float | None = Field(
        default=None, ge=0.0, lt=1.0, description="in units of the metric: 0.01 is a point"
    )
    max_latency_ms: PositiveFloat | None = None
    min_speedup: PositiveFloat | None = None

    def misses(self, score: Score, dense: Score) -> list[str]:
        """The goals that ``score`` misses, each in words with by how much."""
        found = []
        drop = dense.accuracy - score.accuracy
        if self.max_accuracy_drop is not None and drop > self.max_accuracy_drop:
            found.append(f"loses {100 * (drop - self.max_accuracy_drop):.2f} points more than allowed")
        if self.max_latency_ms is not None and score.latency.median_ms > self.max_latency_ms:
            found.append(f"takes {score.latency.median_ms - self.max_latency_ms:.3f} ms more than allowed")
        if self.min_speedup is not None and score.speedup < self.min_speedup:
            found.append(f"is {score.speedup:.2f}x as fast, not {self.min_speedup:g}x")
        return found
