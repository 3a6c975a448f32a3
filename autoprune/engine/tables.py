"""The tables that a strategy works on, measured before the first trial."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from autoprune.damage import measure_damage
from autoprune.errors import StageError, TargetError
from autoprune.graph.cost import count_macs, count_parameters
from autoprune.latency import FOR_A_SEARCH, Calibration, Regression, Store, arithmetic
from autoprune.pareto import OBJECTIVES
from autoprune.strategies import Tables

if TYPE_CHECKING:
    from autoprune.damage import DamageTable
    from autoprune.engine.observer import Observer
    from autoprune.engine.prepare import Prepared
    from autoprune.evaluate import Evaluator
    from autoprune.hardware import Precision


COUNTED = ("size_bytes", "parameters", "macs")
BYTES: dict[Precision, float] = {"fp32": 1.0, "fp16": 0.5, "int8": 0.3}  # of sizes: a first guess, which trials correct


def measure_tables(prepared: Prepared, evaluator: Evaluator, observer: Observer) -> Tables:
    """What cuts save, now; what errors they make when a strategy asks for it.

    Savings are those of latency, measured, unless the objectives ask for size, parameters or MACs and not for latency:
    these are counted. (Peak memory alone has no table: latency stands in for it.) What is known from before takes no
    time.

    Raises:
        TargetError: the device does not settle.
    """
    named = [objective for objective in prepared.objectives if objective.name in COUNTED]
    if any(objective.name == "latency_ms" for objective in prepared.objectives) or not named:
        regressions, cost, whole = _measured(prepared, evaluator, observer), OBJECTIVES["latency_ms"], 1.0
    else:
        cost = named[0]
        regressions, whole = _counted(prepared, evaluator, cost.name)

    def damage() -> DamageTable:
        table = measure_damage(
            prepared.graph,
            prepared.task,
            prepared.space,
            saliencies=evaluator.saliencies,
            fingerprints=prepared.fingerprints,
            most=prepared.config.trials,  # so that the table takes half as long as the trials do
            say=observer.stage,
            tell=observer.message,
        )
        if table.seconds > 1:
            observer.message(f"The error table took {table.seconds:.0f} s; it is kept for later runs of this task.")
        return table

    return Tables(regressions, damage, lambda: importance(prepared, evaluator), cost, whole)


def _measured(prepared: Prepared, evaluator: Evaluator, observer: Observer) -> dict[Precision, Regression]:
    began = time.monotonic()
    store = Store.of(prepared.device, evaluator.reference)
    calibration = Calibration(evaluator, prepared.space, store, FOR_A_SEARCH, say=observer.stage, tell=observer.message)
    try:
        found = calibration.regressions()
    except StageError as error:
        raise TargetError(
            f"The latency table that strategy '{prepared.config.strategy}' needs cannot be measured: {error} Try again "
            "when the device is quieter, or take --strategy tpe, which needs none."
        ) from error
    if (seconds := time.monotonic() - began) > 1:
        what = "table of estimated latencies" if prepared.device.estimates else "latency table"
        observer.message(f"The {what} took {seconds:.0f} s; it is kept for later runs on this device.")
    return found


def _counted(prepared: Prepared, evaluator: Evaluator, cost: str) -> tuple[dict[Precision, Regression], float]:
    graph, inputs = prepared.graph, prepared.task.example_inputs
    work = graph.macs_by_units() if cost == "macs" else graph.parameters_by_units()
    counted = replace(arithmetic(evaluator, prepared.space), work=work)
    dense = graph.module()
    whole = {"macs": count_macs(dense, inputs), "parameters": count_parameters(dense)}
    shares = {p: BYTES[p] if cost == "size_bytes" else 1.0 for p in prepared.space.precisions}
    return {p: Regression(counted, share) for p, share in shares.items()}, float(
        whole.get(cost, evaluator.reference.size_bytes)
    )


def importance(prepared: Prepared, evaluator: Evaluator) -> dict[str, dict[int, float]]:
    """Group id -> units kept -> the saliency, by first-order Taylor expansion, of what goes."""
    saliencies = evaluator.saliencies.of("taylor", seed=prepared.config.seed)
    found = {}
    for group, levels in prepared.space.levels.items():
        ascending = saliencies[group].sort().values
        found[group] = {units: float(ascending[: len(ascending) - units].sum()) for units in levels}
    return found
