"""The tables that a strategy works on, measured before the first trial."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from autoprune.damage import measure_damage
from autoprune.errors import StageError, TargetError
from autoprune.latency import FOR_A_SEARCH, Calibration, Store
from autoprune.strategies import Tables

if TYPE_CHECKING:
    from autoprune.damage import DamageTable
    from autoprune.engine.observer import Observer
    from autoprune.engine.prepare import Prepared
    from autoprune.evaluate import Evaluator


def measure_tables(prepared: Prepared, evaluator: Evaluator, observer: Observer) -> Tables:
    """Latency tables of this model on this device, now; its error tables when a strategy asks for them.

    What is known from before takes no time.

    Raises:
        TargetError: the device does not settle.
    """
    began = time.monotonic()
    store = Store.of(prepared.device, evaluator.reference)
    calibration = Calibration(evaluator, prepared.space, store, FOR_A_SEARCH, observer.stage, observer.message)
    try:
        latency = {precision: calibration.regression(precision) for precision in prepared.space.precisions}
    except StageError as error:
        raise TargetError(
            f"The latency table that strategy '{prepared.config.strategy}' needs cannot be measured: {error} Try again "
            "when the device is quieter, or take --strategy tpe, which needs none."
        ) from error
    if (seconds := time.monotonic() - began) > 1:
        observer.message(f"The latency table took {seconds:.0f} s; it is kept for later runs on this device.")

    def damage() -> DamageTable:
        table = measure_damage(
            prepared.graph,
            prepared.task,
            prepared.space,
            saliencies=evaluator.saliencies,
            fingerprints=prepared.fingerprints,
            say=observer.stage,
            tell=observer.message,
        )
        if table.seconds > 1:
            observer.message(f"The error table took {table.seconds:.0f} s; it is kept for later runs of this task.")
        return table

    return Tables(latency, damage, lambda: importance(prepared, evaluator))


def importance(prepared: Prepared, evaluator: Evaluator) -> dict[str, dict[int, float]]:
    """Group id -> units kept -> the saliency, by first-order Taylor expansion, of what goes."""
    saliencies = evaluator.saliencies.of("taylor", seed=prepared.config.seed)
    found = {}
    for group, levels in prepared.space.levels.items():
        ascending = saliencies[group].sort().values
        found[group] = {units: float(ascending[: len(ascending) - units].sum()) for units in levels}
    return found
