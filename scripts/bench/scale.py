"""What the engine adds to a trial when many are finished: ask and tell, and opening a study again.

Trials are made up: the formula of a toy takes the place of a model, so that all time is the engine's own, and that of
Optuna's samplers, which is told apart. The finished trials are written straight into the study and the result files, as
a search would have left them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from _bench import Bench, main
from optuna.study import StudyDirection

from autoprune.damage import DamageTable
from autoprune.graph.groups import PruneGroup, Slice
from autoprune.latency import Arithmetic, Regression
from autoprune.pareto import Goals, objectives, value
from autoprune.recipe import Recipe
from autoprune.records import TrialRecord
from autoprune.space import BoundSpace, KeepRange, RecoverChoice, SearchSpace
from autoprune.strategies import Search, Tables, strategy
from autoprune.study import Ledger, RunDirectory
from autoprune.study._database import Database
from autoprune.testing import made_up_record

SIZES = (100, 1000, 10_000)
GROUPS, ASKS = 30, 20
TWO = objectives(("accuracy", "latency_ms"))
STRATEGIES = {
    "random": Goals(),
    "nsga2": Goals(),
    "tpe": Goals(),
    "guided": Goals(),
    "guided to 2x": Goals(min_speedup=2),
}
INT8 = 0.4  # its latency as a share of fp32's


def run(bench: Bench) -> None:
    for size in SIZES[:2] if bench.quick else SIZES:
        for name in STRATEGIES:
            with tempfile.TemporaryDirectory() as folder:
                measured(bench, name, size, Path(folder) / "run")


def measured(bench: Bench, name: str, size: int, folder: Path) -> None:
    """One strategy over one number of finished trials."""
    space = toy_space()
    directory = RunDirectory.create(folder)
    fill(directory, begun(name, space), size)
    began = time.monotonic()
    search = begun(name, space)
    ledger = Ledger(directory, TWO, search.suggest)
    search.learn(ledger.records)
    opened = time.monotonic() - began
    asks, samplers, tells = zip(*(question(ledger, search) for _ in range(ASKS)), strict=True)
    ledger.close()
    ask_ms, sampler_ms, tell_ms = (1e3 * statistics.median(seconds) for seconds in (asks, samplers, tells))
    bench.row(
        strategy=name,
        finished=size,
        ask_ms=ask_ms,
        of_which_optuna_sampler_ms=sampler_ms,
        tell_ms=tell_ms,
        open_s=opened,
    )
    if size == SIZES[-1]:
        own_ms = ask_ms - sampler_ms + tell_ms
        bench.figure(f"{name}: ask + tell at {size} trials, without Optuna's sampler (ms)", own_ms, goal="<= 25")
        bench.figure(f"{name}: opening a study of {size} trials (s)", opened, goal="<= 5")
    bench.say(f"{name} at {size}: ask {ask_ms:.1f} ms, tell {tell_ms:.1f} ms, open {opened:.2f} s")


def question(ledger: Ledger, search: Search) -> tuple[float, float, float]:
    """Seconds of one ask, of Optuna's sampler in it, and of one tell."""
    began = time.monotonic()
    search.learn(ledger.records)
    number = ledger.answered
    sampler = Clocked(search.sampler(number))
    asked = ledger.ask(sampler, None if ledger.waiting else search.propose(number))
    between = time.monotonic()
    ledger.tell(asked, record(asked.recipe))
    return between - began, sampler.seconds, time.monotonic() - between


class Clocked(optuna.samplers.BaseSampler):
    """Another sampler, and the seconds that it takes to sample."""

    def __init__(self, sampler: optuna.samplers.BaseSampler) -> None:
        self.sampler, self.seconds = sampler, 0.0

    def infer_relative_search_space(self, *args: Any) -> Any:
        return self._clocked(self.sampler.infer_relative_search_space, *args)

    def sample_relative(self, *args: Any) -> Any:
        return self._clocked(self.sampler.sample_relative, *args)

    def sample_independent(self, *args: Any) -> Any:
        return self._clocked(self.sampler.sample_independent, *args)

    def before_trial(self, *args: Any) -> None:
        self._clocked(self.sampler.before_trial, *args)

    def after_trial(self, *args: Any) -> None:
        self.sampler.after_trial(*args)

    def _clocked(self, method: Callable[..., Any], *args: Any) -> Any:
        began = time.monotonic()
        try:
            return method(*args)
        finally:
            self.seconds += time.monotonic() - began


def begun(name: str, space: BoundSpace) -> Search:
    """A search of that strategy and its goals, with the toy's tables."""
    return strategy(name.split()[0]).begin(space, seed=0, tables=toy_tables(space), goals=STRATEGIES[name])


def toy_space() -> BoundSpace:
    """30 groups of 64 units, two precisions, two criteria and two ways to recover: 33 parameters."""
    index = tuple((u,) for u in range(64))
    groups = [
        PruneGroup(id=f"g{n}", kind="channel", size=64, members=(Slice(f"g{n}.weight", 0, index),), macs=1, exact=True)
        for n in range(GROUPS)
    ]
    ways = (RecoverChoice(methods=("lstsq",)), RecoverChoice(methods=("lstsq", "bn")))
    space = SearchSpace(name="toy", description="", keep=KeepRange(min=0.25), criterion=("l2", "l1"), recover=ways)
    return space.bind(groups, precisions=("fp32", "int8"), channel_multiple=8)


def toy_tables(space: BoundSpace) -> Tables:
    """Tables that are right about every group alone."""
    damage = {group: {n: (1 - n / 64) ** 2 / GROUPS for n in levels} for group, levels in space.levels.items()}
    arithmetic = Arithmetic(
        sizes=space.sizes,
        levels=space.levels,
        makes=dict.fromkeys(space.sizes, "toy"),
        work=lambda units, _: units.sum(axis=1),
    )
    table = DamageTable(criterion="l2", recover="lstsq", samples=1, damage=damage)
    latency = {"fp32": Regression(arithmetic, 1.0), "int8": Regression(arithmetic, INT8)}
    return Tables(latency, lambda: table, lambda: damage)


def fill(directory: RunDirectory, search: Search, size: int) -> None:
    """A study with ``size`` trials that are finished, their answers random; for NSGA-II in generations of 16."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    maker = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study = Database(directory.study, [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
    for number in range(size):
        trial = maker.ask()
        made = record(search.suggest(trial))
        directory.trials.joinpath(f"{made.recipe.id}.json").write_text(made.model_dump_json())
        assert made.score
        finished = optuna.trial.create_trial(
            values=[value(made.score, by) for by in TWO],
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"recipe": made.recipe.id},
            system_attrs={"NSGAIISampler:generation": number // 16},
        )
        finished.number = number
        last = number // 16 * 16
        study.put(finished, [(f"NSGAIISampler:parent:{number // 16}", list(range(max(last - 16, 0), last)))])
    study.close()


def record(recipe: Recipe) -> TrialRecord:
    """Accuracy and latency by a formula."""
    kept = [recipe.choices[f"g{n}"].units / 64 if f"g{n}" in recipe.choices else 1.0 for n in range(GROUPS)]
    latency = sum(kept) * (INT8 if recipe.precision == "int8" else 1.0)
    accuracy = 0.9 - sum((1 - share) ** 2 for share in kept) / GROUPS
    return made_up_record(recipe, accuracy=accuracy, latency_ms=latency, reference_ms=float(GROUPS))


if __name__ == "__main__":
    main("Scale", run)
