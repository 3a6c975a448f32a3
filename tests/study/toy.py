"""A search over a toy space with a formula in place of a model; also a process that can be killed."""

import sys
from pathlib import Path

import numpy as np

from autoprune.damage import DamageTable
from autoprune.graph.groups import PruneGroup, Slice
from autoprune.latency import Arithmetic, Regression
from autoprune.pareto import Goals, objectives
from autoprune.recipe import Recipe
from autoprune.records import TrialRecord
from autoprune.space import KeepRange, RecoverChoice, SearchSpace
from autoprune.strategies import Search, Tables
from autoprune.strategies import strategy as named
from autoprune.study import Ledger, RunDirectory
from autoprune.testing import made_up_record

SEED, TRIALS = 3, 30
NONE = Goals()
GROUPS = [
    PruneGroup(
        id=name,
        kind="channel",
        size=64,
        members=(Slice(f"{name}.weight", 0, tuple((u,) for u in range(64))),),
        macs=1,
        exact=True,
    )
    for name in "abcd"
]
SPACE = SearchSpace(
    name="toy", description="", keep=KeepRange(min=0.25), criterion=("l2",), recover=(RecoverChoice(),)
).bind(GROUPS, precisions=("fp32", "int8"), channel_multiple=8)


def toy_record(recipe: Recipe) -> TrialRecord:
    """Accuracy and latency by a formula."""
    kept = [recipe.choices[name].units / 64 if name in recipe.choices else 1.0 for name in "abcd"]
    latency = sum(kept) * (0.4 if recipe.precision == "int8" else 1.0)
    accuracy = 0.9 - sum((1 - share) ** 2 * weight for share, weight in zip(kept, (0.1, 0.05, 0.02, 0.01), strict=True))
    return made_up_record(recipe, accuracy=accuracy, latency_ms=latency, reference_ms=4.0)


def toy_tables() -> Tables:
    """Damages that are right about every group alone, latencies that are not."""
    damage = {
        name: {n: weight * (1 - n / 64) ** 2 for n in SPACE.levels[name]}
        for name, weight in zip("abcd", (0.1, 0.05, 0.02, 0.01), strict=True)
    }
    arithmetic = Arithmetic(
        sizes=SPACE.sizes,
        levels=SPACE.levels,
        makes=dict.fromkeys("abcd", "toy"),
        work=lambda units, _: units @ np.array([1.6, 1.0, 1.0, 0.4]),  # wrong, so that trials have something to correct
    )
    table = DamageTable(criterion="l2", recover="none", samples=1, damage=damage)
    latency = {"fp32": Regression(arithmetic, 1.0), "int8": Regression(arithmetic, 0.4)}
    return Tables(latency, lambda: table, lambda: damage)


def open_search(strategy: str = "tpe", *, goals: Goals = NONE) -> Search:
    """A search of the toy space."""
    return named(strategy).begin(SPACE, seed=SEED, tables=toy_tables(), goals=goals)


def open_ledger(directory: RunDirectory, search: Search | None = None) -> Ledger:
    """The ledger of a toy run."""
    return Ledger(directory, objectives(("accuracy", "latency_ms")), (search or open_search()).suggest)


def drive(directory: RunDirectory, *, strategy: str = "tpe", trials: int = TRIALS, goals: Goals = NONE) -> None:
    """The engine's loop with the formula as evaluator; every evaluation leaves a line in tried.txt."""
    search = open_search(strategy, goals=goals)
    ledger = open_ledger(directory, search)
    ledger.enqueue(search.seeds())
    while len(ledger.records) < trials:
        search.learn(ledger.records)
        number = ledger.answered
        question = ledger.ask(search.sampler(number), None if ledger.waiting else search.propose(number))
        record = ledger.records.get(question.recipe.id)
        if record is None:
            with (directory.root / "tried.txt").open("a") as tried:
                tried.write(question.recipe.id + "\n")
            record = toy_record(question.recipe)
        ledger.tell(question, record)


if __name__ == "__main__":
    print("driving", flush=True)
    drive(RunDirectory(Path(sys.argv[1])))
