"""A contender's candidates in ``against_peers.py``: found within seconds of CPU time, timed again, the best picked."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bench import Bench, interval

from autoprune.engine.prepare import Prepared
from autoprune.errors import StageError
from autoprune.evaluate import Candidate, Evaluator, Screen
from autoprune.recipe import Recipe
from autoprune.records import Artifact, TrialRecord

SPEEDUPS = (1.25, 1.5, 2.0, 3.0)
NEAR = 0.97  # of a speed-up: a candidate that was timed this near may reach it when it is timed again
RIVALS = 3  # candidates of one contender for one speed-up that are timed again
TOGETHER = 24


class SpentError(Exception):
    """The seconds are spent."""


class Budgeted(Evaluator):
    """Evaluates until the seconds of CPU time are spent; keeps what it found."""

    def __init__(self, prepared: Prepared, *, work: Path, seconds: float, ahead: float) -> None:
        self.began, self.seconds = cpu_seconds() - ahead, seconds
        self.found: dict[str, TrialRecord] = {}
        super().__init__(prepared.task, prepared.graph, prepared.device, work=work)

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return cpu_seconds() - self.began

    def begin(self, recipe: Recipe, *, screen: Screen | None = None) -> Candidate:
        """As an `Evaluator`; raises SpentError instead of beginning another candidate when it is too late."""
        if self.spent > self.seconds:
            raise SpentError
        return Found(self, recipe, screen)


class Found(Candidate):
    """Its record is kept."""

    def record(self) -> TrialRecord:
        assert isinstance(self.evaluator, Budgeted)
        record = self.evaluator.found[self.recipe.id] = super().record()
        return record


@dataclass(frozen=True)
class Rival:
    """A candidate that may be a contender's best for some speed-up."""

    contender: str
    seed: int
    recipe: Recipe
    accuracy: float
    speedup: float
    artifact: Artifact
    evaluator: Budgeted

    @property
    def key(self) -> str:
        return f"{self.contender} {self.seed} {self.recipe.id}"


class Cell(dict[str, Any]):
    """Mean and 95 % interval over seeds of an accuracy in per cent, as a cell of the table and in JSON."""

    def __str__(self) -> str:
        if self["mean"] is None:
            return "-"
        half = f" ±{self['high'] - self['mean']:.2f}" if self["low"] is not None else ""
        some = f" ({self['found']}/{self['seeds']})" if self["found"] < self["seeds"] else ""
        trained = f" -> {self['distilled_mean']:.2f}" if "distilled_mean" in self else ""
        return f"{self['mean']:.2f}{half}{some}{trained}"


def scored(evaluator: Budgeted) -> int:
    """How many candidates got a score."""
    return sum(record.score is not None for record in evaluator.found.values())


def exported(name: str, seed: int, evaluator: Budgeted, folder: Path) -> Iterator[Rival]:
    """The rivals of one run, with artifacts that stay."""
    records = [record for record in evaluator.found.values() if record.score]
    chosen: dict[str, TrialRecord] = {}
    for speedup in SPEEDUPS:
        fast = [r for r in records if r.score.speedup >= NEAR * speedup]
        best = sorted(fast, key=lambda r: (-r.score.accuracy, -r.score.speedup))[:RIVALS]
        chosen |= {record.recipe.id: record for record in best}
    for recipe, record in chosen.items():
        path = folder / f"{name} {seed} {recipe}.onnx".replace(" ", "-")
        artifact = evaluator.export(evaluator.build(record.recipe), record.recipe, path)
        score = record.score
        yield Rival(name, seed, record.recipe, score.accuracy, score.speedup, artifact, evaluator)


def retimed(bench: Bench, rivals: Sequence[Rival]) -> dict[str, float]:
    """Speed-ups by key, timed interleaved with rivals of about the same speed and the dense model."""
    ordered = sorted(rivals, key=lambda rival: rival.speedup)
    found: dict[str, float] = {}
    for start in range(0, len(ordered), TOGETHER):
        bench.say(f"timing {len(ordered) - start} rivals again")
        found |= timed_together(bench, ordered[start : start + TOGETHER])
    return found


def timed_together(bench: Bench, rivals: Sequence[Rival]) -> dict[str, float]:
    """One that does not settle must not cost the others their result."""
    try:
        timed = rivals[0].evaluator.time({rival.key: rival.artifact for rival in rivals})
    except StageError as error:
        if len(rivals) == 1:
            bench.say(f"left out: {rivals[0].key}: {error}")
            return {}
        half = len(rivals) // 2
        return timed_together(bench, rivals[:half]) | timed_together(bench, rivals[half:])
    reference_ms = timed.pop("reference").median_ms
    return {key: reference_ms / latency.median_ms for key, latency in timed.items()}


def cell(rivals: Sequence[Rival], timed: Mapping[str, float], speedup: float, *, seeds: int, epochs: float) -> Cell:
    """The best accuracy of one contender at one speed-up, over its seeds."""
    fast = [r for r in rivals if timed.get(r.key, 0) >= speedup]
    best = [
        max((r for r in fast if r.seed == seed), key=lambda r: r.accuracy) for seed in sorted({r.seed for r in fast})
    ]
    found = Cell(found=len(best), seeds=seeds, **spread([100 * r.accuracy for r in best]))
    found["speedups"] = [timed[r.key] for r in best]
    if epochs and best:
        trained = spread([100 * distilled(r, epochs) for r in best])
        found |= {f"distilled_{key}": number for key, number in trained.items()}
    return found


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, low and high of `interval`; None where there is none."""
    mean, half = interval(values) if values else (None, None)
    if mean is None or half is None:
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": mean - half, "high": mean + half}


def distilled(rival: Rival, epochs: float) -> float:
    """The accuracy after that many epochs of distillation on top, in the same precision."""
    recipe, evaluator = rival.recipe, rival.evaluator
    if not recipe.choices:
        return rival.accuracy
    methods = (*recipe.recover, "distil")
    trained = Recipe.model_validate({**recipe.model_dump(), "recover": methods, "epochs": epochs})
    if trained.id not in evaluator.found:
        evaluator.seconds = float("inf")
        evaluator.evaluate(trained)
    score = evaluator.found[trained.id].score
    return score.accuracy if score else 0.0


def cpu_seconds() -> float:
    """Of this process, its threads and its children that ended."""
    return time.process_time() + sum(os.times()[2:4])
