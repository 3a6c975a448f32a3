"""What the engine adds to a trial when many are finished: ask and tell, and opening a study again.

Trials are made up: the formula of a toy takes the place of a model, so that all time is the engine's own. The finished
trials are written straight into the study and the result files, as a search would have left them.
"""

import statistics
import tempfile
import time
from pathlib import Path

import optuna
from _bench import Bench, main

from autoprune.graph.groups import PruneGroup, Slice
from autoprune.pareto import objectives, value
from autoprune.recipe import Recipe
from autoprune.records import Measurement, Score, Success, TrialRecord
from autoprune.space import BoundSpace, SearchSpace
from autoprune.strategies import Search, strategy
from autoprune.study import Ledger, RunDirectory

SIZES = (100, 1000, 10_000)
GROUPS, ASKS = 30, 20
TWO = objectives(("accuracy", "latency_ms"))
STRATEGIES = ("random", "nsga2", "tpe")


def run(bench: Bench) -> None:
    for size in SIZES[:2] if bench.quick else SIZES:
        for name in STRATEGIES:
            with tempfile.TemporaryDirectory() as folder:
                measured(bench, name, size, Path(folder) / "run")


def measured(bench: Bench, name: str, size: int, folder: Path) -> None:
    """One strategy over one number of finished trials."""
    space = toy_space()
    search = strategy(name).begin(space, seed=0, tables=None)
    directory = RunDirectory.create(folder)
    fill(directory, space, size)
    began = time.monotonic()
    ledger = Ledger(directory, TWO, search.suggest)
    opened = time.monotonic() - began
    asks, tells = [], []
    for _ in range(ASKS):
        ask_s, tell_s = question(ledger, search)
        asks.append(1e3 * ask_s)
        tells.append(1e3 * tell_s)
    ledger.close()
    ask_ms, tell_ms = statistics.median(asks), statistics.median(tells)
    bench.row(strategy=name, finished=size, ask_ms=ask_ms, tell_ms=tell_ms, open_s=opened)
    if size == SIZES[-1]:
        bench.figure(f"{name}: ask + tell at {size} trials (ms)", ask_ms + tell_ms, goal="<= 25")
        bench.figure(f"{name}: opening a study of {size} trials (s)", opened, goal="<= 5")
    bench.say(f"{name} at {size}: ask {ask_ms:.1f} ms, tell {tell_ms:.1f} ms, open {opened:.2f} s")


def question(ledger: Ledger, search: Search) -> tuple[float, float]:
    """Seconds of one ask and one tell."""
    began = time.monotonic()
    search.learn(ledger.records)
    number = ledger.answered
    asked = ledger.ask(search.sampler(number), None if ledger.waiting else search.propose(number))
    between = time.monotonic()
    ledger.tell(asked, record(asked.recipe))
    return between - began, time.monotonic() - between


def toy_space() -> BoundSpace:
    """30 groups of 64 units, two precisions."""
    index = tuple((u,) for u in range(64))
    groups = [
        PruneGroup(id=f"g{n}", kind="channel", size=64, members=(Slice(f"g{n}.weight", 0, index),), macs=1, exact=True)
        for n in range(GROUPS)
    ]
    return SearchSpace(name="toy", description="").bind(groups, precisions=("fp32", "int8"), channel_multiple=8)


def fill(directory: RunDirectory, space: BoundSpace, size: int) -> None:
    """A study with ``size`` random trials that are finished."""
    maker = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = []
    for _ in range(size):
        trial = maker.ask()
        made = record(space.suggest(trial))
        directory.trials.joinpath(f"{made.recipe.id}.json").write_text(made.model_dump_json())
        assert made.score
        trials.append(
            optuna.trial.create_trial(
                values=[value(made.score, by) for by in TWO],
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"recipe": made.recipe.id},
            )
        )
    study = optuna.create_study(
        study_name="autoprune",
        storage=f"sqlite:///{directory.study}",
        directions=["maximize", "minimize"],
    )
    study.add_trials(trials)


def record(recipe: Recipe) -> TrialRecord:
    """Accuracy and latency by a formula."""
    kept = [recipe.choices[f"g{n}"].units / 64 if f"g{n}" in recipe.choices else 1.0 for n in range(GROUPS)]
    latency = sum(kept) * (0.4 if recipe.precision == "int8" else 1.0)
    measurement = Measurement(
        source="measured",
        runtime="toy",
        runtime_version="1",
        device="toy",
        precision=recipe.precision,
        batch=1,
        threads=1,
        n=9,
        median_ms=latency,
        p90_ms=latency,
        p99_ms=latency,
        low_ms=latency,
        high_ms=latency,
        cv_percent=0,
    )
    score = Score(
        accuracy=0.9 - sum((1 - share) ** 2 for share in kept) / GROUPS,
        samples=100,
        latency=measurement,
        reference_ms=float(GROUPS),
        size_bytes=1000,
        macs=1000,
        parameters=1000,
    )
    return TrialRecord(recipe=recipe, outcome=Success(score=score), finished_at="2026-01-01T00:00:00+00:00")


if __name__ == "__main__":
    main("Scale", run)
