"""Synthetic records: a search on ResNet-20 as it may have gone, without running one."""

import math
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from autoprune.hardware import Precision
from autoprune.pareto import Goals, front, objectives
from autoprune.recipe import DENSE, Keep, Recipe
from autoprune.records import Failure, Measurement, Score, Success, TrialRecord
from autoprune.report import Finalist, RunReport

START = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
DENSE_MS = 2.304
WIDTHS = [16] * 4 + [32] * 3 + [64] * 3
GROUPS = [f"layer{1 + n // 4}.{n % 4}.conv1" for n in range(len(WIDTHS))]
FAILURES = (
    Failure(stage="latency", kind="unsettled", message="The latency did not settle within 20 s: 6.1 % spread."),
    Failure(stage="recover", kind="diverged", message="The loss became NaN in epoch 1."),
    Failure(stage="parity", kind="parity", message="The exported model differs from the module by 0.31."),
)
CIRCUMSTANCES = {
    "runtime": "onnxruntime 1.31.1",
    "processor": "Intel Xeon Platinum 8481C, 2 cores",
    "threads": "1",
    "batch": "1",
    "timing": "7 blocks of 40 ms after 100 ms of warm-up, interleaved with the dense model",
    "strategy": "tpe, 64 trials, seed 0",
    "space": "default: about 10^11.2 recipes, widths in multiples of 4",
    "autoprune": "0.1.0",
    "torch": "2.13.0",
    "python": "3.11.9",
}


def measurement(ms: float, *, noise: float = 0.004, precision: Precision = "fp32") -> Measurement:
    """A measured latency with an interval of plus and minus ``noise``."""
    return Measurement(
        source="measured",
        runtime="onnxruntime",
        runtime_version="1.31.1",
        device="5f0c9b1ad2e47c33",
        precision=precision,
        batch=1,
        threads=1,
        n=812,
        median_ms=ms,
        p90_ms=ms * 1.02,
        p99_ms=ms * 1.07,
        low_ms=ms * (1 - noise),
        high_ms=ms * (1 + noise),
        cv_percent=100 * noise,
    )


def score(
    accuracy: float = 0.93,
    ms: float = DENSE_MS,
    *,
    noise: float = 0.004,
    size: int = 1_092_000,
    reference_ms: float = DENSE_MS,
    precision: Precision = "fp32",
) -> Score:
    """A score; MACs, parameters and memory follow from ``size``."""
    return Score(
        accuracy=accuracy,
        samples=5000,
        latency=measurement(ms, noise=noise, precision=precision),
        reference_ms=reference_ms,
        size_bytes=size,
        macs=37 * size,
        parameters=size // 4,
        peak_memory_bytes=9_000_000 + 3 * size,
    )


def record(found: Score | Failure, *, recipe: Recipe = DENSE, minutes: float = 0.0) -> TrialRecord:
    """A record of ``recipe``, finished that long after the start."""
    outcome = found if isinstance(found, Failure) else Success(score=found)
    at = (START + timedelta(minutes=minutes)).isoformat(timespec="seconds")
    return TrialRecord(recipe=recipe, outcome=outcome, stages={"cut": 0.01, "latency": 3.2}, finished_at=at)


def recipe(n: int) -> Recipe:
    """A recipe like no other ``n``'s."""
    return Recipe(seed=n)


def search_records(trials: int = 64) -> list[TrialRecord]:
    """The dense model, dense INT8, then candidates that grow better; every eleventh fails. The machine drifts."""
    chance = random.Random(20)
    records = [record(score()), record(score(0.9308, 0.94, size=301_000, precision="int8"), recipe=_int8(), minutes=1)]
    for n in range(2, trials):
        made = _candidate(chance, n)
        if n % 11 == 7:
            records.append(record(FAILURES[n // 11 % 3], recipe=made, minutes=1.3 * n))
            continue
        records.append(record(_outcome(chance, made, n / trials), recipe=made, minutes=1.3 * n))
    return records


def keep_ratio(made: Recipe) -> float:
    """The share of all units that ``made`` keeps."""
    kept = [made.choices[g].units if g in made.choices else w for g, w in zip(GROUPS, WIDTHS, strict=True)]
    return sum(kept) / sum(WIDTHS)


def _int8() -> Recipe:
    return Recipe(precision="int8")


def _candidate(chance: random.Random, n: int) -> Recipe:
    level = chance.uniform(0.3, 1.0)
    units = [max(4, 4 * round(w * min(1.0, chance.gauss(level, 0.12)) / 4)) for w in WIDTHS]
    choices = {g: Keep(units=u) for g, u, w in zip(GROUPS, units, WIDTHS, strict=True) if u < w}
    return Recipe(choices=choices, precision=chance.choice(("fp32", "int8")), recover=("bn", "lstsq"), seed=n)


def _outcome(chance: random.Random, made: Recipe, progress: float) -> Score:
    ratio = keep_ratio(made)
    drift = 1 + 0.04 * progress
    share = (0.18 + 0.82 * ratio**1.5) * (0.42 if made.precision == "int8" else 1.0) * chance.uniform(0.97, 1.06)
    loss = 0.34 * (1 - ratio) ** 2.4 * chance.uniform(0.6, 1.9 - progress)
    noise = chance.choice((0.002, 0.003, 0.004, 0.004, 0.011))
    size = round(1_092_000 * ratio**1.7 * (0.28 if made.precision == "int8" else 1.0))
    accuracy = math.floor(5000 * (0.9304 - loss)) / 5000
    return score(
        accuracy,
        DENSE_MS * drift * share,
        noise=noise,
        size=size,
        reference_ms=DENSE_MS * drift,
        precision=made.precision,
    )


@dataclass(frozen=True)
class Operator:
    """A row of a profile."""

    name: str
    op_type: str
    time_us: float


def finalist(found: TrialRecord, *, shift: float = 0.0) -> Finalist:
    """A record measured again: ``shift`` is added to its accuracy on the test split."""
    assert found.score is not None
    kept = {
        g: found.recipe.choices[g].units if g in found.recipe.choices else w
        for g, w in zip(GROUPS, WIDTHS, strict=True)
    }
    return Finalist(
        recipe=found.recipe,
        score=found.score.model_copy(update={"accuracy": found.score.accuracy + shift, "samples": 10_000}),
        split="test",
        accuracy_validation=found.score.accuracy,
        kept=kept,
        operators=_operators(kept, found.score),
        model=f"front/{found.recipe.id}/model.onnx",
    )


def run_report(*, trials: int = 64, finished: bool = True, **changed: Any) -> RunReport:
    """The report of `search_records`; ``changed`` replaces its fields."""
    records = search_records(trials)
    over = objectives(("accuracy", "latency_ms"))
    members = [r for r in front(records, over) if r.recipe.id != DENSE.id]
    report = RunReport(
        task="cifar10-resnet20",
        target="cpu",
        directory="runs/cifar10-resnet20-cpu-20260314-092600",
        started_at=START.isoformat(),
        finished=finished,
        dense=finalist(records[0], shift=-0.004) if finished else Finalist.provisional(records[0]),
        finalists=tuple(
            finalist(r, shift=-0.004 - 0.001 * (n % 3)) if finished else Finalist.provisional(r)
            for n, r in enumerate(members)
        ),
        records=tuple(records),
        objectives=over,
        goals=Goals(max_accuracy_drop=0.01, min_speedup=2.0),
        groups=dict(zip(GROUPS, WIDTHS, strict=True)),
        circumstances=CIRCUMSTANCES,
        warnings=(
            "The machine changed speed by +4.0 %. Speed-ups stay fair: the dense model was timed beside every one.",
        ),
    )
    return replace(report, **changed)


def _operators(kept: dict[str, int], found: Score) -> tuple[Operator, ...]:
    kind = "QLinearConv" if found.latency.precision == "int8" else "FusedConv"
    convs = [Operator(f"/{group}/Conv", kind, units**1.3) for group, units in kept.items()]
    rest = [
        Operator("/pool", "GlobalAveragePool", 4.0),
        Operator("/fc/Gemm", "Gemm", 2.5),
        Operator("/add", "Add", 9.0),
    ]
    scale = 1000 * found.latency.median_ms / sum(row.time_us for row in (*convs, *rest))
    return tuple(Operator(row.name, row.op_type, row.time_us * scale) for row in (*convs, *rest))
