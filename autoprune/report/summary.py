"""``pareto.json``: the result of a run for programs. `Document` is its schema, published as ``pareto.schema.json``."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from autoprune.documents import Strict
from autoprune.hardware import Precision
from autoprune.pareto import Goals
from autoprune.records import Failure
from autoprune.report.data import Finalist, RunReport, Split

SCHEMA = Path(__file__).with_name("pareto.schema.json")


class Entry(Strict):
    """One model, as measured at the end of the run."""

    recipe: str = Field(pattern="^[0-9a-f]{16}$", description="content hash of the recipe that makes the model")
    model: str | None = Field(description="artifact, relative to the run directory; null while the search goes on")
    accuracy: float = Field(description="the task's metric of the exported model, on `split`")
    accuracy_drop: float = Field(description="accuracy of the baseline minus accuracy, on `split`; negative is a gain")
    accuracy_validation: float = Field(description="the same metric on the validation split, which the search saw")
    split: Split = Field(description="the split of `accuracy`: test where the task has one and the run is finished")
    samples: PositiveInt = Field(description="samples that `accuracy` is of")
    latency_ms: PositiveFloat = Field(description="median, milliseconds per inference of one batch")
    latency_p90_ms: PositiveFloat | None = Field(description="90th percentile; null for an estimate")
    latency_p99_ms: PositiveFloat | None = Field(description="99th percentile; null for an estimate")
    latency_low_ms: PositiveFloat = Field(description="lower end of the 95 % interval of the median")
    latency_high_ms: PositiveFloat = Field(description="upper end of the 95 % interval of the median")
    latency_n: NonNegativeInt = Field(description="inferences timed; 0 for an estimate")
    error_factor: PositiveFloat | None = Field(description="an estimate may be off by it either way; null if measured")
    estimated_ms: PositiveFloat | None = Field(
        description="what the search estimated, where the latency was measured afterwards; else null"
    )
    disturbed: bool = Field(description="other work, throttling or drift met the device while it was timed")
    speedup: PositiveFloat = Field(description="against the dense FP32 model, timed side by side")
    size_bytes: PositiveInt = Field(description="of the artifact")
    macs: NonNegativeInt = Field(description="multiply-accumulates per sample")
    parameters: NonNegativeInt
    peak_memory_bytes: NonNegativeInt | None = Field(description="null where it was not measured")
    energy_mj: PositiveFloat | None = Field(description="of one inference of one batch; null where it was not measured")
    energy_above_idle_mj: float | None = Field(description="what of it is above what the board draws at rest")
    precision: Precision
    source: Literal["measured", "estimated"] = Field(description="of the latencies")
    runtime: str
    runtime_version: str
    device: str = Field(description="fingerprint of the device")
    batch: PositiveInt
    threads: PositiveInt


class GoalsOutcome(Strict):
    """What the user wanted, and whether the chosen model gives it."""

    wanted: Goals
    met: bool = Field(description="whether the chosen model meets every goal; true where there are none")
    misses: tuple[str, ...] = Field(description="the goals it misses, in words")


class Step(Strict):
    """The hypervolume after a trial."""

    trial: PositiveInt
    seconds: NonNegativeFloat = Field(description="since the run was started")
    value: NonNegativeFloat


class Hypervolume(Strict):
    """Of all trials, by the scores that the search saw (validation split)."""

    value: NonNegativeFloat = Field(description="share of the unit cube of normalised costs; greater is better")
    reference: dict[str, float] = Field(description="the worst corner: accuracy 0, and the dense model's costs")
    history: tuple[Step, ...]


class Trials(Strict):
    """How many recipes were tried, and what went wrong."""

    total: NonNegativeInt
    succeeded: NonNegativeInt
    failed: NonNegativeInt
    screened: NonNegativeInt = Field(description="recipes given up early, beside those tried")
    failures: dict[str, PositiveInt] = Field(description="how often, by `stage/kind`")


class Document(Strict):
    """The result of a run of autoprune, in numbers of the exported models."""

    schema_version: Literal[1] = 1
    task: str
    target: str = Field(description="name of the hardware profile")
    finished: bool = Field(description="false: the search goes on, and its numbers are provisional")
    objectives: tuple[str, ...] = Field(min_length=2, max_length=3)
    baseline: Entry = Field(description="the dense FP32 model")
    front: tuple[Entry, ...] = Field(description="models that no other dominates beyond the noise, fastest first")
    chosen: str = Field(description="recipe of the model to use, one of the front")
    goals: GoalsOutcome
    hypervolume: Hypervolume
    trials: Trials
    circumstances: dict[str, str] = Field(description="device, versions, policy: what the numbers hold under")
    warnings: tuple[str, ...]


def pareto_document(report: RunReport) -> dict[str, Any]:
    """The content of ``pareto.json``."""
    document = Document(
        task=report.task,
        target=report.target,
        finished=report.finished,
        objectives=tuple(objective.name for objective in report.objectives),
        baseline=entry(report.dense, report.dense),
        front=tuple(entry(member, report.dense) for member in report.front),
        chosen=report.chosen.recipe.id,
        goals=GoalsOutcome(wanted=report.goals, met=not report.misses, misses=tuple(report.misses)),
        hypervolume=_hypervolume(report),
        trials=_trials(report),
        circumstances=dict(report.circumstances),
        warnings=report.warnings,
    )
    return document.model_dump(mode="json")


def entry(member: Finalist, dense: Finalist) -> Entry:
    """One model of the document."""
    score, latency = member.score, member.score.latency
    return Entry(
        recipe=member.recipe.id,
        model=member.model,
        accuracy=score.accuracy,
        accuracy_drop=dense.score.accuracy - score.accuracy,
        accuracy_validation=member.accuracy_validation,
        split=member.split,
        samples=score.samples,
        latency_ms=latency.median_ms,
        latency_p90_ms=latency.p90_ms,
        latency_p99_ms=latency.p99_ms,
        latency_low_ms=latency.low_ms,
        latency_high_ms=latency.high_ms,
        latency_n=latency.n,
        error_factor=latency.error_factor,
        estimated_ms=member.estimated_ms,
        disturbed=latency.disturbed,
        speedup=score.speedup,
        size_bytes=score.size_bytes,
        macs=score.macs,
        parameters=score.parameters,
        peak_memory_bytes=score.peak_memory_bytes,
        energy_mj=score.energy_mj,
        energy_above_idle_mj=score.energy.above_idle_mj if score.energy else None,
        precision=latency.precision,
        source=latency.source,
        runtime=latency.runtime,
        runtime_version=latency.runtime_version,
        device=latency.device,
        batch=latency.batch,
        threads=latency.threads,
    )


def schema() -> dict[str, Any]:
    """The JSON schema of the document (draft 2020-12); ``pareto.schema.json`` holds it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Document.model_json_schema(mode="serialization"),
    }


def write_schema() -> None:
    """Bring ``pareto.schema.json`` up to date with `Document`."""
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")


def _hypervolume(report: RunReport) -> Hypervolume:
    dense = entry(report.dense, report.dense)
    reference = {by.name: 0.0 if by.maximize else float(getattr(dense, by.name)) for by in report.objectives}
    history = tuple(Step(trial=step.trial, seconds=step.seconds, value=step.value) for step in report.progress)
    return Hypervolume(value=history[-1].value if history else 0.0, reference=reference, history=history)


def _trials(report: RunReport) -> Trials:
    failures = [record.outcome for record in report.records if isinstance(record.outcome, Failure)]
    return Trials(
        total=len(report.tried),
        succeeded=len(report.tried) - len(failures),
        failed=len(failures),
        screened=len(report.records) - len(report.tried),
        failures=dict(Counter(f"{failure.stage}/{failure.kind}" for failure in failures).most_common()),
    )
