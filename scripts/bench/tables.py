"""Latency tables: seconds to make them, and predicted against measured on recipes that they did not see.

Digits, and the CIFAR-10 ResNets where AUTOPRUNE_CIFAR10 names their folder (see ``_models.py``). Everything is timed
anew: the cache of earlier tables is not used. The first row of a model and precision is a calibration as users get it;
those below it go on with more joint recipes, to show what more minutes are worth.

The unseen recipes are timed longer than those that the table is made of, once before the calibration and once after
it: a table is of the minutes in which it was made, and shares move. What is predicted is the share of the latency of
the dense model in the same precision, which is timed beside them, as it is when the table is made. ``floor_percent`` is
half of what the two differ by, on average and at worst: the error that a table without any would show on this machine
at this hour. ``moved_percent`` is by how much the shares were higher afterwards.

``of FP32`` are the same figures for shares of the dense FP32 model's latency, which is what a search plans with. There
every recipe is wrong together by what ``dense_moved_percent`` says: by how much more of it the dense model in that
precision took in the calibration than in the timing before and after. No table can know what FP32 and INT8 will do.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _bench import Bench, main
from _models import cache_in, cifar10, task_of
from scipy.stats import kendalltau

from autoprune import engine
from autoprune.engine import SearchConfig, Silent
from autoprune.engine.prepare import Prepared, prepare
from autoprune.evaluate import Evaluator
from autoprune.hardware import Precision, TimingPolicy
from autoprune.latency import Calibration, Effort, Regression, Store, arithmetic, kept_units
from autoprune.latency.calibrate import plain
from autoprune.latency.plan import scattered
from autoprune.latency.rounds import time_round
from autoprune.recipe import Recipe

UNSEEN, SEED = 40, 1234  # the seed is none of those that a calibration draws with
MORE = 150  # joint recipes
LONGER = TimingPolicy(warmup_ms=20.0, blocks=30, block_ms=20.0, settle_percent=5.0)
TOGETHER = 8
GOALS = {"MAPE (%)": "<= 0.5", "worst (%)": "<= 1.5", "Kendall tau": ">= 0.97"}
Unseen = Mapping[Precision, Sequence[Recipe]]
Array = npt.NDArray[np.float64]


def run(bench: Bench, models: Sequence[str]) -> None:
    given = cifar10(bench)
    for model in models:
        if given or model == "digits":
            measured(bench, model, engine.configure(**task_of(model)))


def measured(bench: Bench, name: str, config: SearchConfig) -> None:
    """One model's tables, from nothing; the seconds are those of a calibration as users get it."""
    effort = Effort(held_out=4, most=4, tolerance_percent=50.0) if bench.quick else Effort()
    with tempfile.TemporaryDirectory() as folder, cache_in(Path(folder) / "cache"):
        prepared = prepare(config, Silent())
        evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=Path(folder) / "work")
        unseen = drawn(prepared, evaluator, 4 if bench.quick else UNSEEN)
        before = timed_longer(evaluator, unseen, seed=1)
        began = time.monotonic()
        engine.calibrate(config, observer=Silent(), effort=effort)
        seconds = time.monotonic() - began
        bench.figure(f"{name}: seconds, both precisions, unseen recipes too", seconds, goal="<= 180")
        bench.say(f"{name}: {seconds:.0f} s")
        after = timed_longer(evaluator, unseen, seed=2)
        twice = {recipe: (after[recipe], before[recipe]) for recipe in before}
        more = replace(effort, most=MORE, tolerance_percent=0.0)
        for how in (effort,) if bench.quick else (effort, more):
            table = Calibration(evaluator, prepared.space, Store.of(prepared.device, evaluator.reference), how)
            for precision, regression in table.regressions().items():
                told(bench, name, precision, table, regression, unseen[precision], twice, goals=how is effort)


def drawn(prepared: Prepared, evaluator: Evaluator, count: int) -> Unseen:
    """The same recipes of all sizes in each precision."""
    kept = scattered(arithmetic(evaluator, prepared.space), count, rng=np.random.default_rng(SEED))
    return {
        precision: list({recipe.id: recipe for recipe in (plain(one, precision) for one in kept)}.values())
        for precision in prepared.space.precisions
    }


@dataclass(frozen=True)
class Shares:
    """Of one recipe: its own latency of that of the dense model in its precision, and that of the dense FP32 one."""

    own: float
    dense: float


def timed_longer(evaluator: Evaluator, unseen: Unseen, *, seed: int) -> dict[str, Shares]:
    """The shares of every unseen recipe, timed beside others for every seed; rounds of the precisions take turns."""
    random, found = np.random.default_rng(seed), dict[str, Shares]()
    orders = {precision: random.permutation(len(recipes)) for precision, recipes in unseen.items()}
    for start in range(0, max(map(len, unseen.values())), TOGETHER):
        for precision, recipes in unseen.items():
            found |= shares(evaluator, [recipes[n] for n in orders[precision][start : start + TOGETHER]], precision)
    return found


def shares(evaluator: Evaluator, recipes: Sequence[Recipe], precision: Precision) -> dict[str, Shares]:
    """By recipe id, timed beside each other."""
    artifacts = {recipe.id: evaluator.sketch(recipe) for recipe in recipes}
    found = time_round(evaluator, artifacts, LONGER, dense=evaluator.dense(precision))
    return {recipe: Shares(found.share(recipe), found.dense_ms / found.reference_ms) for recipe in artifacts}


def told(
    bench: Bench,
    name: str,
    precision: Precision,
    table: Calibration,
    regression: Regression,
    recipes: Sequence[Recipe],
    twice: Mapping[str, tuple[Shares, Shares]],
    *,
    goals: bool,
) -> None:
    """A row, and figures where there are goals."""
    unseen = [recipe for recipe in recipes if recipe.id not in table.learnt]
    predicted, _ = regression.predict(regression.features([kept_units(recipe) for recipe in unseen]))
    pairs = [twice[recipe.id] for recipe in unseen]
    whole, then = float(regression.mean[0]), np.array([[one.dense for one in pair] for pair in pairs])
    after, before = (own := np.array([[one.own for one in pair] for pair in pairs])).T
    actual = (after + before) / 2
    floor, found = 50 * np.abs(after - before) / actual, figures(predicted / whole, actual)
    of_fp32 = figures(predicted, (own * then).mean(axis=1))
    learnt = [one for one in table.known.values() if one.recipe.precision == precision and one.purpose != "held-out"]
    bench.row(
        model=name,
        precision=precision,
        joint=sum(one.purpose == "joint" for one in learnt),
        unseen=len(unseen),
        **found,
        mean_percent=float(100 * (predicted / whole / actual - 1).mean()),
        floor_percent=float(floor.mean()),
        floor_worst_percent=float(floor.max()),
        moved_percent=float(100 * (after / before - 1).mean()),
        **{f"{figure} of FP32": value for figure, value in of_fp32.items()},
        dense_moved_percent=float(100 * (whole / then.mean() - 1)),
        disturbed=sum(one.disturbed for one in learnt),
    )
    for figure, value in found.items() if goals else ():
        bench.figure(f"{name} {precision}: {figure}", value, goal=GOALS[figure])
    for figure, value in of_fp32.items() if goals and precision != "fp32" else ():
        bench.figure(f"{name} {precision} of FP32: {figure}", value, goal=GOALS[figure])


def figures(predicted: Array, actual: Array) -> dict[str, float]:
    """How far the predictions are off."""
    error = 100 * (predicted / actual - 1)
    tau = float(kendalltau(predicted, actual).statistic)
    return {"MAPE (%)": float(np.abs(error).mean()), "worst (%)": float(np.abs(error).max()), "Kendall tau": tau}


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--models", default="digits,resnet20" if quick else "digits,resnet20,resnet56")
    chosen, sys.argv[1:] = parser.parse_known_args()
    main("Latency tables", lambda bench: run(bench, chosen.models.split(",")))
