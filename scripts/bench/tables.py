"""Latency tables: seconds to make them, and predicted against measured on recipes that they did not see.

Digits, and the CIFAR-10 ResNets where AUTOPRUNE_CIFAR10 names their folder (see ``main_job.py``). Everything is timed
anew: the cache of earlier tables is not used. ``repeat_percent`` is how far two measurements of one unseen recipe
differ, on this machine at this hour: no prediction can be seen to be better than half of that.
"""

import dataclasses
import os
import tempfile
import time
from pathlib import Path

from _bench import Bench, main

from autoprune import engine
from autoprune.engine import Silent
from autoprune.latency import Effort, LatencyTable

HELD_OUT = 40


def run(bench: Bench) -> None:
    given = os.environ.get("AUTOPRUNE_CIFAR10")
    measured(bench, "digits", "digits", {})
    if given is None:
        bench.say("AUTOPRUNE_CIFAR10 is not set: the CIFAR-10 part is left out")
        return
    for model in ("resnet20",) if bench.quick else ("resnet20", "resnet56"):
        weights = Path(given) / "models" / f"cifar10_{model}.safetensors"
        options = {"data": str(Path(given) / "cifar10"), "model": model, "weights": str(weights)}
        measured(bench, model, "cifar10", options)


def measured(bench: Bench, name: str, task: str, options: dict[str, str]) -> None:
    """One model's tables, from nothing; the seconds are those of a calibration as users get it."""
    effort = Effort(held_out=4, most=4, tolerance_percent=50.0) if bench.quick else Effort()
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            began = time.monotonic()
            config = engine.configure(task=task, options=options)
            table = engine.calibrate(config, observer=Silent(), effort=effort)
            seconds = time.monotonic() - began
            if not bench.quick:
                effort = dataclasses.replace(effort, held_out=HELD_OUT)
                table = engine.calibrate(config, observer=Silent(), effort=effort)
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            os.environ.update({} if before is None else {"XDG_CACHE_HOME": before})
    told(bench, name, table, seconds)


def told(bench: Bench, name: str, table: LatencyTable, seconds: float) -> None:
    """Rows and figures."""
    for precision, one in table.tables.items():
        timed = [o for o in table.observations if o.recipe.precision == precision]
        bench.row(
            model=name,
            precision=precision,
            dense_ms=one.dense_share * table.dense_ms,
            alone=sum(o.purpose == "sweep" for o in timed),
            joint=sum(o.purpose == "joint" for o in timed),
            unseen=one.bias.n,
            mape_percent=one.bias.mape_percent,
            worst_percent=one.bias.worst_percent,
            mean_percent=one.bias.mean_percent,
            repeat_percent=one.bias.repeat_percent,
            kendall_tau=one.bias.kendall_tau,
            disturbed=sum(o.disturbed for o in timed),
        )
        bench.figure(f"{name} {precision}: MAPE (%)", one.bias.mape_percent, goal="<= 0.5")
        bench.figure(f"{name} {precision}: worst (%)", one.bias.worst_percent, goal="<= 1.5")
        bench.figure(f"{name} {precision}: Kendall tau", one.bias.kendall_tau, goal=">= 0.97")
    bench.figure(f"{name}: seconds, both precisions, {Effort().held_out} unseen recipes each", seconds, goal="<= 180")
    bench.say(f"{name}: {seconds:.0f} s")


if __name__ == "__main__":
    main("Latency tables", run)
