"""The best accuracy at measured speed-ups for the same seconds of CPU: autoprune, plain Optuna, Torch-Pruning.

CIFAR-10 ResNets (see ``_models.py`` for AUTOPRUNE_CIFAR10). Every contender tries candidates until its seconds of CPU
time are spent: its process with all threads and children. All start with the dense model in each precision, and share
recovery, export (a cut in the graph is the cut model: checked for every choice of Torch-Pruning), quantisation and
timing. What differs is who chooses the channels:

- ``guided``: autoprune. Its tables are made anew within its seconds, which analysis and probing count towards too;
  they are those of a search of 40 trials, the default.
  ``guided to 2x`` is told so, by ``--min-speedup 2``; without a goal, what loses 15 % of its accuracy does not count.
- ``optuna-tpe``, ``optuna-nsga2``, ``optuna-random``: Optuna's samplers with their defaults over the same space.
- ``torch-pruning IMPORTANCE uniform|global``: see ``_peers.py``. Each has all of the seconds, and none of the analysis.

Space ``widths`` is what Torch-Pruning can do: FP32, no residual branch dropped, recovery by least squares, or that and
BatchNorm re-estimation. ``bn`` is the same with re-estimation alone, which needs no counterpart in the dense model. In
``fp32`` residual branches may be dropped too, and ``default``, the space that ships, has every precision besides: there
Torch-Pruning is given what it can use. The candidates in question of all contenders are timed again beside each other
at the end, because winners picked by noisy timings look faster than they are.
"""

import argparse
import fnmatch
import importlib.util
import itertools
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import optuna
from _bench import Bench, main
from _models import cache_in, cifar10, scored_on, task_of
from _peers import CLASSES, TorchPruning
from _rivals import SPEEDUPS, Budgeted, Cell, Rival, SpentError, cell, cpu_seconds, exported, retimed, scored

from autoprune import engine
from autoprune.engine import SearchConfig, Silent
from autoprune.engine.loop import run_trials
from autoprune.engine.prepare import Prepared, prepare
from autoprune.engine.screen import Screening
from autoprune.engine.tables import measure_tables
from autoprune.pareto import Goals, value
from autoprune.space import RecoverChoice
from autoprune.strategies import strategy
from autoprune.strategies._ladder import dense
from autoprune.study import Ledger, RunDirectory

BN_ALONE = RecoverChoice(methods=("bn",))
SPACES = ("widths", "bn", "fp32", "default")
TRIALS = SearchConfig.model_fields["trials"].default
QUICK = "guided,optuna-tpe,torch-pruning magnitude-l2 *"
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "optuna-tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "optuna-nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "optuna-random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True)
class Contender:
    """``random``: its result depends on a seed."""

    name: str
    random: bool
    pays_analysis: bool
    run: Callable[[Prepared, Budgeted], None]


def run(bench: Bench, options: argparse.Namespace) -> None:
    if not cifar10(bench):
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder, cache_in(Path(folder) / "cache"):
            began = cpu_seconds()
            config = engine.configure(**task_of(model), trials=10**6)
            prepared = prepare(config, Silent())
            analysis = cpu_seconds() - began
            bench.say(
                f"{model}: {analysis:.1f} s of analysis, channels in multiples of {prepared.space.channel_multiple}"
            )
            prepared = scored_on(prepared, 1 if bench.quick else None)
            for space in options.spaces.split(","):
                compare(bench, prepared, model, space, options, ahead=analysis, folder=Path(folder) / space)


def compare(
    bench: Bench,
    prepared: Prepared,
    model: str,
    space: str,
    options: argparse.Namespace,
    *,
    ahead: float,
    folder: Path,
) -> None:
    """All contenders on one model and space."""
    rivals: list[Rival] = []
    tried: dict[str, list[Budgeted]] = defaultdict(list)
    for contender in contenders(options.only):
        for seed in range(options.seeds if contender.random else 1):
            own = bound(prepared, space, seed, levels=3 if bench.quick else 8)
            work = folder / f"{contender.name} {seed}".replace(" ", "-")
            with cache_in(work / "cache"):
                evaluator = Budgeted(
                    own, work=work, seconds=options.seconds, ahead=ahead if contender.pays_analysis else 0.0
                )
                try:
                    contender.run(own, evaluator)
                except SpentError:
                    pass
                except Exception as error:  # what one has found so far counts, and the others go on
                    bench.say(f"{contender.name} stopped: {type(error).__name__}: {error}")
            spent = evaluator.spent
            tried[contender.name].append(evaluator)
            found = list(exported(contender.name, seed, evaluator, folder))
            bench.say(
                f"{model} {space} {contender.name} {seed}: {scored(evaluator)} scored in {spent:.0f} s of CPU, "
                f"{len(found)} to be timed again"
            )
            rivals += found
    timed = retimed(bench, rivals)
    results = {
        name: {s: cell(mine, timed, s, seeds=len(tried[name]), epochs=options.epochs) for s in SPEEDUPS}
        for name, mine in ((name, [rival for rival in rivals if rival.contender == name]) for name in tried)
    }
    told(bench, model, space, results, tried)


def bound(prepared: Prepared, name: str, seed: int, *, levels: int) -> Prepared:
    """The same model and device, with the space of that name and that seed."""
    space = prepared.config.space
    keep = space.keep.model_copy(update={"drop": name in ("fp32", "default"), "levels": levels})
    recover = (BN_ALONE,) if name == "bn" else space.recover
    precision = space.precision if name == "default" else ("fp32",)
    space = space.model_copy(update={"keep": keep, "recover": recover, "precision": precision})
    config = prepared.config.model_copy(update={"space": space, "seed": seed})
    narrowed = space.bind(
        prepared.graph.groups,
        precisions=config.profile.capabilities.precisions,
        channel_multiple=prepared.space.channel_multiple,
        seed=seed,
    )
    return replace(prepared, config=config, space=narrowed)


def contenders(only: str) -> Iterator[Contender]:
    """Those whose names match one of the patterns."""
    known = [Contender("guided", random=True, pays_analysis=True, run=partial(guided, goals=Goals()))]
    known += [
        Contender(with_goal(s), random=True, pays_analysis=True, run=partial(guided, goals=Goals(min_speedup=s)))
        for s in SPEEDUPS
    ]
    known += [
        Contender(name, random=True, pays_analysis=True, run=partial(plain_optuna, make=make))
        for name, make in SAMPLERS.items()
    ]
    if importlib.util.find_spec("torch_pruning"):
        known += [
            Contender(
                f"torch-pruning {importance} {'global' if globally else 'uniform'}",
                random=importance == "random",
                pays_analysis=False,
                run=partial(torch_pruning, importance=importance, globally=globally),
            )
            for importance in CLASSES
            for globally in (False, True)
        ]
    return (one for one in known if any(fnmatch.fnmatch(one.name, pattern) for pattern in only.split(",")))


def with_goal(speedup: float) -> str:
    """The name of the contender that has this goal."""
    return f"guided to {speedup:g}x"


def guided(prepared: Prepared, evaluator: Budgeted, *, goals: Goals) -> None:
    """As the engine runs a search with strategy ``guided``."""
    asked = prepared.config.model_copy(update={"trials": TRIALS})
    tables = measure_tables(replace(prepared, config=asked), evaluator, Silent())
    search = strategy("guided").begin(prepared.space, seed=prepared.config.seed, tables=tables, goals=goals)
    ledger = Ledger(RunDirectory.create(evaluator.work / "run"), prepared.objectives, search.suggest)
    screen = Screening(tables, ledger.records)
    try:
        run_trials(prepared, evaluator, ledger, Silent(), search=search, screen=screen)
    finally:
        ledger.close()


def plain_optuna(
    prepared: Prepared, evaluator: Budgeted, *, make: Callable[[int], optuna.samplers.BaseSampler]
) -> None:
    """Ask and tell as in Optuna's documentation; what was tried already costs nothing."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(prepared.config.seed))
    for answers in dense(prepared.space):
        study.enqueue_trial(answers)
    while True:
        trial = study.ask()
        recipe = prepared.space.suggest(trial)
        score = (evaluator.found.get(recipe.id) or evaluator.evaluate(recipe)).score
        values = [value(score, objective) for objective in prepared.objectives] if score else None
        study.tell(trial, values, state=None if score else optuna.trial.TrialState.FAIL)


def torch_pruning(prepared: Prepared, evaluator: Budgeted, *, importance: str, globally: bool) -> None:
    TorchPruning(prepared, importance, globally=globally, seed=prepared.config.seed).run(evaluator)


def told(
    bench: Bench,
    model: str,
    space: str,
    results: Mapping[str, Mapping[float, Cell]],
    tried: Mapping[str, Sequence[Budgeted]],
) -> None:
    """One row for each contender, and how far ahead of the best peer ``guided`` is, told that speed-up if it can be."""
    for name, cells in results.items():
        candidates = fmean(scored(evaluator) for evaluator in tried[name])
        at = {f"{s:g}x": found for s, found in cells.items()}
        bench.row(model=model, space=space, contender=name, candidates=candidates, **at)
    for peer, s in itertools.product(("optuna", "torch-pruning"), SPEEDUPS):
        theirs = [cells[s]["mean"] for name, cells in results.items() if name.startswith(peer)]
        best = max((mean for mean in theirs if mean is not None), default=None)
        name = with_goal(s) if with_goal(s) in results else "guided"
        ours = results[name][s]["mean"] if name in results else None
        if ours is not None and best is not None:
            label = f"{model} {space} {s:g}x: points that {name} is ahead of the best {peer}"
            bench.figure(label, ours - best, goal=">= 0")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    quick = "--quick" in sys.argv
    parser.add_argument("--seconds", type=float, default=60 if quick else 300, help="of CPU, for each contender")
    parser.add_argument("--seeds", type=int, default=1 if quick else 3)
    parser.add_argument("--models", default="resnet20" if quick else "resnet20,resnet56")
    parser.add_argument("--spaces", default="fp32" if quick else ",".join(SPACES))
    parser.add_argument("--only", default=QUICK if quick else "*", help="contenders by name patterns, with commas")
    parser.add_argument("--epochs", type=float, default=0.0, help="distil the winners, all for as long")
    chosen, sys.argv[1:] = parser.parse_known_args()
    main("Against peers", lambda bench: run(bench, chosen))
