"""autoprune search: find the Pareto-best smaller models for a device."""

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli._options import (
    ClocksOption,
    ConnectOption,
    JsonOption,
    SpaceOption,
    TargetOption,
    TaskOption,
    TaskOptions,
    key_values,
)


def search(
    *,
    task: TaskOption,
    option: TaskOptions = None,
    target: TargetOption = "cpu",
    connect: ConnectOption = None,
    allow_clock_control: ClocksOption = False,
    space: SpaceOption = "default",
    strategy: Annotated[str, typer.Option(help="How recipes are chosen (see 'autoprune strategies').")] = "guided",
    trials: Annotated[int, typer.Option(min=1, help="Recipes to try, the dense model among them.")] = 40,
    objectives: Annotated[
        str,
        typer.Option(
            help="Two or three of accuracy, latency_ms, size_bytes, peak_memory_bytes, energy_mj, macs, parameters."
        ),
    ] = "accuracy,latency_ms",
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Goal: lose no more of the metric than this (0.01 is one point of accuracy).")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Goal: no slower than this.")] = None,
    min_speedup: Annotated[float | None, typer.Option(help="Goal: at least this many times faster.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Makes the sequence of recipes reproducible.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Run directory.", show_default="runs/TASK-TARGET-TIME")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show configuration, groups and size of the space; search nothing.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Find the Pareto-best smaller models for a device."""
    from autoprune import engine
    from autoprune.cli import _run

    config = engine.configure(
        task=task,
        options=key_values(option),
        target=target,
        connect=connect,
        space=space,
        strategy=strategy,
        trials=trials,
        objectives=[name.strip() for name in objectives.split(",")],
        goals=engine.goals(max_accuracy_drop, max_latency_ms=max_latency_ms, min_speedup=min_speedup),
        seed=seed,
        allow_clock_control=allow_clock_control,
    )
    if dry_run:
        return _run.dry(config, json=json)
    return _run.watched(lambda observer: engine.start(config, out=out, observer=observer), json=json)
