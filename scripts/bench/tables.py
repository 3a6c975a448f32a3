"""Latency tables: seconds to make them, and predicted against measured on recipes that they did not see.

Digits, and the CIFAR-10 ResNets where AUTOPRUNE_CIFAR10 names their folder (see ``main_job.py``). Everything is timed
anew: the cache of earlier tables is not used. The first row of a model and precision is a calibration as users get it;
those below it go on with more joint recipes, to show what more minutes are worth.

The unseen recipes are timed longer than those that the table is made of, twice. ``floor_percent`` is half of what the
two differ by: the error that a table without any would show on this machine at this hour. ``moved_percent`` is by how
much the shares of the same recipes have moved meanwhile: they were timed for the first time when the table was made.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _bench import Bench, main
from scipy.stats import kendalltau

from autoprune import engine
from autoprune.devices.steadiness import REFERENCE
from autoprune.engine import SearchConfig, Silent
from autoprune.engine.prepare import prepare
from autoprune.evaluate import Evaluator
from autoprune.hardware import TimingPolicy
from autoprune.latency import Effort, LatencyTable
from autoprune.recipe import Recipe

HELD_OUT = 40
MORE = (120,)  # joint recipes
LONGER = TimingPolicy(warmup_ms=20.0, blocks=15, block_ms=20.0, settle_percent=5.0)
TOGETHER = 8
Shares = dict[str, tuple[float, float]]  # recipe id -> shares of the dense FP32 model's latency


def run(bench: Bench) -> None:
    given = os.environ.get("AUTOPRUNE_CIFAR10")
    measured(bench, "digits", engine.configure(task="digits"))
    if given is None:
        bench.say("AUTOPRUNE_CIFAR10 is not set: the CIFAR-10 part is left out")
        return
    for model in ("resnet20",) if bench.quick else ("resnet20", "resnet56"):
        weights = Path(given) / "models" / f"cifar10_{model}.safetensors"
        options = {"data": str(Path(given) / "cifar10"), "model": model, "weights": str(weights)}
        measured(bench, model, engine.configure(task="cifar10", options=options))


def measured(bench: Bench, name: str, config: SearchConfig) -> None:
    """One model's tables, from nothing; the seconds are those of a calibration as users get it."""
    effort = Effort(held_out=4, most=4, tolerance_percent=50.0) if bench.quick else Effort()
    with an_empty_cache():
        began = time.monotonic()
        table = engine.calibrate(config, observer=Silent(), effort=effort)
        seconds = time.monotonic() - began
        bench.figure(f"{name}: seconds, both precisions, unseen recipes too", seconds, goal="<= 180")
        bench.say(f"{name}: {seconds:.0f} s")
        if not bench.quick:
            effort = dataclasses.replace(effort, held_out=HELD_OUT)
            table = engine.calibrate(config, observer=Silent(), effort=effort)
        longer = timed_longer(config, table)
        told(bench, name, table, longer, goals=True)
        for most in () if bench.quick else MORE:
            effort = dataclasses.replace(effort, most=most, tolerance_percent=0.0)
            told(bench, name, engine.calibrate(config, observer=Silent(), effort=effort), longer, goals=False)


@contextmanager
def an_empty_cache() -> Iterator[None]:
    """Where no table is found; the user's comes back afterwards."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            yield
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            os.environ.update({} if before is None else {"XDG_CACHE_HOME": before})


def timed_longer(config: SearchConfig, table: LatencyTable) -> Shares:
    """The unseen recipes, twice, each time beside others than before."""
    prepared, found = prepare(config, Silent()), dict[str, list[float]]()
    unseen = [one.recipe for one in table.observations if one.purpose == "held-out"]
    with tempfile.TemporaryDirectory() as work:
        evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=Path(work))
        for seed in (1, 2):
            order = np.random.default_rng(seed).permutation(len(unseen))
            for start in range(0, len(unseen), TOGETHER):
                for recipe, share in shares(evaluator, [unseen[n] for n in order[start : start + TOGETHER]]).items():
                    found.setdefault(recipe, []).append(share)
    return {recipe: (one, other) for recipe, (one, other) in found.items()}


def shares(evaluator: Evaluator, recipes: list[Recipe]) -> dict[str, float]:
    """Recipe id -> share of the dense FP32 model's latency, timed beside each other and three dense models."""
    artifacts = {recipe.id: evaluator.sketch(recipe) for recipe in recipes}
    dense = {f"{REFERENCE} {n}": evaluator.reference for n in (2, 3)}
    timed = evaluator.time({**artifacts, **dense}, LONGER)
    dense_ms = np.mean([timed[name].median_ms for name in (REFERENCE, *dense)])
    return {recipe: float(timed[recipe].median_ms / dense_ms) for recipe in artifacts}


def told(bench: Bench, name: str, table: LatencyTable, longer: Shares, *, goals: bool) -> None:
    """Rows, and figures where there are goals."""
    for precision, one in table.tables.items():
        timed = [o for o in table.observations if o.recipe.precision == precision]
        unseen = [given for given in one.held_out if given.recipe in longer]  # more joint recipes may have seen others
        predicted = np.array([given.predicted for given in unseen])
        twice = np.array([longer[given.recipe] for given in unseen])
        measured = twice.mean(axis=1)
        error = 100 * (predicted / measured - 1)
        found = {
            "MAPE (%)": (float(np.abs(error).mean()), "<= 0.5"),
            "worst (%)": (float(np.abs(error).max()), "<= 1.5"),
            "Kendall tau": (float(kendalltau(predicted, measured).statistic), ">= 0.97"),
        }
        bench.row(
            model=name,
            precision=precision,
            dense_ms=one.dense_share * table.dense_ms,
            alone=sum(o.purpose == "sweep" for o in timed),
            joint=sum(o.purpose == "joint" for o in timed),
            unseen=len(measured),
            **{figure: value for figure, (value, _) in found.items()},
            mean_percent=float(error.mean()),
            floor_percent=float((100 * np.abs(twice[:, 0] - twice[:, 1]) / measured).mean() / 2),
            moved_percent=float(100 * (measured / [given.measured for given in unseen] - 1).mean()),
            mape_as_told=one.bias.mape_percent,
            disturbed=sum(o.disturbed for o in timed),
        )
        for figure, (value, goal) in found.items() if goals else ():
            bench.figure(f"{name} {precision}: {figure}", value, goal=goal)


if __name__ == "__main__":
    main("Latency tables", run)
