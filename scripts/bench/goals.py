"""Towards a speed that is asked for: the most accurate model that is fast enough, by the number of trials.

Accuracies are those of real models: digits, and the CIFAR-10 ResNets where AUTOPRUNE_CIFAR10 names their folder (see
``_models.py``), in FP32, with closed-form recovery, on ``--validation`` samples. Latencies are by a formula, so that it
does not matter how quiet the machine is: they follow the multiply-accumulates of channels in multiples of 8, each cut
off that by ``CUT``, each timing by ``TIMING``. The latency table is wrong as measured ones are: what all cuts save by
``TABLE``, and each of the recipes that it is made of by ``ROUND``. The error table is measured.

Contenders: `guided`, told the speed by ``--min-speedup`` or not, and the other strategies, which know of no goals.
"""

import argparse
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _bench import Bench, main
from _models import cache_in, cifar10, scored_on, task_of
from _rivals import Cell, spread

from autoprune import engine
from autoprune.compress.batches import as_inputs
from autoprune.damage import DamageTable, measure_damage
from autoprune.engine import Silent
from autoprune.engine.loop import run_trials
from autoprune.engine.prepare import Prepared, prepare
from autoprune.engine.tables import importance
from autoprune.evaluate import Candidate, Evaluator, Screen
from autoprune.latency import Regression, arithmetic, kept_units
from autoprune.latency.calibrate import plain
from autoprune.latency.plan import scattered
from autoprune.latency.regress import fit
from autoprune.latency.table import Observation
from autoprune.pareto import Goals
from autoprune.recipe import DENSE, Recipe
from autoprune.records import TrialRecord
from autoprune.strategies import Tables, strategies, strategy
from autoprune.study import Ledger, RunDirectory
from autoprune.testing import made_up_record

AFTER = (4, 8, 12, 24)  # trials, the dense model among them
SPEEDUPS = {"digits": (4.0, 8.0), "resnet20": (1.25, 2.0), "resnet56": (1.25, 2.0)}
MULTIPLE, PADDING = 8, 0.2
CUT, TIMING = 0.1, 0.01  # standard deviations
TABLE, ROUND, RECIPES = 0.06, 0.02, 16
LEAST = 0.01  # of the dense latency


class ByFormula(Evaluator):
    """Gives the latencies of a formula, and accuracies of models that were cut and recovered, each once."""

    def __init__(self, prepared: Prepared, work: Path) -> None:
        super().__init__(prepared.task, prepared.graph, prepared.device, work=work)
        self.arithmetic = arithmetic(self, prepared.space)
        self.formula = Regression(self.arithmetic.padded(PADDING), 1.0)
        off = np.exp(np.random.default_rng(0).normal(0, CUT, len(self.arithmetic.places)))
        self.formula.mean[1 : 1 + len(off)] *= off
        self.accuracies: dict[str, float] = {}

    def begin(self, recipe: Recipe, *, screen: Screen | None = None) -> Candidate:
        return MadeUp(self, recipe, screen)

    def shares(self, recipes: Sequence[Mapping[str, int]]) -> np.ndarray:
        """Of the dense latency, without noise."""
        return np.maximum(self.formula.expect(self.arithmetic.units(recipes)), LEAST)

    def accuracy_of(self, recipe: Recipe) -> float:
        """Of the model itself, in PyTorch."""
        if recipe.id not in self.accuracies:
            model, outputs, targets = self.build(recipe), [], []
            with torch.no_grad():
                for inputs, target in self.task.validation:
                    outputs.append(model(*as_inputs(inputs)))
                    targets.append(target)
            self.accuracies[recipe.id] = float(self.task.metric(torch.cat(outputs), torch.cat(targets)))
        return self.accuracies[recipe.id]


class MadeUp(Candidate):
    """Its record is a formula's but for the accuracy."""

    evaluator: ByFormula

    def make(self) -> None:
        """Nothing that a device would need."""

    def record(self) -> TrialRecord:
        share = float(self.evaluator.shares([kept_units(self.recipe)])[0])
        noise = np.random.default_rng(zlib.crc32(self.recipe.id.encode())).normal(0, TIMING)
        latency_ms = 1.0 if self.recipe == DENSE else share * float(np.exp(noise))
        accuracy = self.evaluator.accuracy_of(self.recipe)
        return made_up_record(self.recipe, accuracy=accuracy, latency_ms=latency_ms, reference_ms=1.0)


def run(bench: Bench, *, options: argparse.Namespace) -> None:
    models = ("digits",) if bench.quick else options.models.split(",")
    for model in models:
        if model == "digits" or cifar10(bench):
            with tempfile.TemporaryDirectory() as folder, cache_in(Path(folder) / "cache"):
                searched(bench, model, options, Path(folder))


def searched(bench: Bench, model: str, options: argparse.Namespace, folder: Path) -> None:
    """All contenders on one model."""
    config = engine.configure(**task_of(model), trials=AFTER[0] if bench.quick else AFTER[-1])
    prepared = scored_on(prepare(config, Silent()), options.validation)
    evaluator = ByFormula(bound(prepared, 0), folder / "work")
    bench.say(f"{model}: measuring the error table")
    damage = errors(prepared, evaluator)
    found: dict[str, list[list[TrialRecord]]] = {}
    for name, goals in contenders(SPEEDUPS[model], options.strategies.split(",")):
        for seed in range(1 if bench.quick else options.seeds):
            own = bound(prepared, seed)
            tables = Tables({"fp32": mismeasured(evaluator, seed)}, lambda: damage, partial(importance, own, evaluator))
            work = folder / f"{name} {seed}".replace(" ", "-")
            found.setdefault(name, []).append(trials(own, evaluator, tables, name.split()[0], goals, work))
        bench.say(f"{model} {name}")
    for speedup in SPEEDUPS[model]:
        told(bench, model, speedup, found)


def bound(prepared: Prepared, seed: int) -> Prepared:
    """In FP32 alone, with channels in multiples that do not depend on this machine."""
    space = prepared.config.space.model_copy(update={"precision": ("fp32",)})
    config = prepared.config.model_copy(update={"space": space, "seed": seed})
    narrowed = space.bind(prepared.graph.groups, precisions=("fp32",), channel_multiple=MULTIPLE, seed=seed)
    return replace(prepared, config=config, space=narrowed)


def errors(prepared: Prepared, evaluator: Evaluator) -> DamageTable:
    """The error table, as a search measures it."""
    own = bound(prepared, 0)
    return measure_damage(
        own.graph, own.task, own.space, saliencies=evaluator.saliencies, fingerprints=own.fingerprints, most=AFTER[-1]
    )


def mismeasured(evaluator: ByFormula, seed: int) -> Regression:
    """A latency table that is off."""
    rng = np.random.default_rng(seed)
    kept = scattered(evaluator.arithmetic, RECIPES, rng=rng)
    saved = (1 - evaluator.shares(kept)) * (1 + rng.normal(0, TABLE))
    shares = np.maximum((1 - saved) * np.exp(rng.normal(0, ROUND, RECIPES)), LEAST)
    observations = [
        Observation(
            recipe=plain(one, "fp32"),
            purpose="joint",
            share=share,
            low=share * (1 - 2 * ROUND),
            high=share * (1 + 2 * ROUND),
            latency_ms=share,
            dense_ms=1.0,
            reference_ms=1.0,
        )
        for one, share in zip(kept, shares.tolist(), strict=True)
    ]
    return fit(evaluator.arithmetic, observations, kept).scaled(1.0, 0.0)


def contenders(speedups: Sequence[float], names: Sequence[str]) -> Iterator[tuple[str, Goals]]:
    """Name, of which the first word is the strategy's, and goals."""
    for speedup in speedups:
        yield f"guided to {speedup:g}x", Goals(min_speedup=speedup)
    for name in names:
        yield name, Goals()


def trials(
    prepared: Prepared, evaluator: Evaluator, tables: Tables, name: str, goals: Goals, work: Path
) -> list[TrialRecord]:
    """What one search tried, in that order; it screens nothing."""
    search = strategy(name).begin(prepared.space, seed=prepared.config.seed, tables=tables, goals=goals)
    ledger = Ledger(RunDirectory.create(work), prepared.objectives, search.suggest)
    try:
        run_trials(prepared, evaluator, ledger, Silent(), search=search, screen=None)
    finally:
        ledger.close()
    return [ledger.records[recipe] for recipe in ledger.order]


def told(bench: Bench, model: str, speedup: float, found: Mapping[str, Sequence[Sequence[TrialRecord]]]) -> None:
    """A row for each contender, and how far ahead of the best other strategy the one that was told the speed is."""
    goal = f"guided to {speedup:g}x"
    rows = {
        name: {count: cell([best(one, count, speedup) for one in several]) for count in AFTER}
        for name, several in found.items()
        if name == goal or " " not in name
    }
    for name, cells in rows.items():
        bench.row(model=model, speedup=speedup, contender=name, **{f"after {n}": found for n, found in cells.items()})
    for count in () if bench.quick else AFTER:
        others = [cells[count]["mean"] for name, cells in rows.items() if name != goal]
        ours, theirs = rows[goal][count]["mean"], max((mean for mean in others if mean is not None), default=None)
        if ours is not None and theirs is not None:
            bench.figure(f"{model} {speedup:g}x: points ahead after {count} trials", ours - theirs, goal=">= 0")


def best(records: Sequence[TrialRecord], count: int, speedup: float) -> float | None:
    """The best accuracy, in per cent, of what is fast enough among the first ``count``."""
    scores = [record.score for record in records[:count] if record.score]
    return max((100 * score.accuracy for score in scores if score.speedup >= speedup), default=None)


def cell(values: Sequence[float | None]) -> Cell:
    """Over seeds."""
    known = [value for value in values if value is not None]
    return Cell(found=len(known), seeds=len(values), **spread(known))


def arguments() -> argparse.Namespace:
    """Those that only this benchmark has; they leave ``sys.argv``."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--models", default=",".join(SPEEDUPS))
    parser.add_argument("--strategies", default=",".join(one.name for one in strategies()))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--validation", type=int, default=1000, help="samples that score a candidate")
    found, sys.argv[1:] = parser.parse_known_args()
    return found


if __name__ == "__main__":
    main("Towards a speed", partial(run, options=arguments()))
