"""How much accuracy minutes of distillation on a CPU give back, in INT8 at 3x, 3.5x and 4x measured speed-up.

CIFAR-10 ResNet-56 (see ``_models.py`` for AUTOPRUNE_CIFAR10). Recipes: for each speed-up the mildest uniform cut and
the solver's answer, which may drop residual branches, that is measured a little beyond it; or those in
``--recipes``, a JSON file that holds recipes anywhere (of a trial, ``finals.json``). Each is refitted by least squares,
then distilled for as many steps as ``--minutes`` hold, all threads together (``--clock cpu``: minutes of CPU time),
quantised, scored on the validation split, and timed beside the others and the dense model.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from _bench import Bench, main
from _models import cifar10, task_of

from autoprune import engine
from autoprune.compress.recover import Reference, recovery
from autoprune.engine import Silent
from autoprune.engine.prepare import Prepared, prepare
from autoprune.engine.tables import measure_tables
from autoprune.evaluate import Evaluator
from autoprune.latency import kept_units
from autoprune.recipe import DENSE, Keep, Recipe
from autoprune.records import Artifact
from autoprune.space import BoundSpace
from autoprune.strategies import Tables
from autoprune.strategies._budgets import Budgets
from autoprune.strategies.guided import WORST_DAMAGE

SPEEDUPS = (3.0, 3.5, 4.0)
BEYOND = 1.02  # of the wanted speed-up, since timing is off by about 1 %
ATTEMPTS = 6  # to correct the latency table by what is measured
BISECTIONS = 8
TRIAL_STEPS = 6  # whose seconds say how many steps the minutes hold
MARGIN = 0.97  # of the minutes


@dataclass(frozen=True)
class Trained:
    """One recipe, recovered."""

    name: str
    recipe: Recipe
    artifact: Artifact
    cells: Mapping[str, Any]


def run(bench: Bench, options: argparse.Namespace) -> None:
    if not cifar10(bench):
        return
    config = engine.configure(**task_of(options.model))
    space = config.space.model_copy(update={"keep": config.space.keep.model_copy(update={"drop": True})})
    prepared = prepare(config.model_copy(update={"space": space}), Silent())
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=options.out or Path(folder))
        recipes = read(options.recipes) if options.recipes else dict(defaults(bench, prepared, evaluator))
        rows = [trained(bench, evaluator, name, recipe, options) for name, recipe in recipes.items()]
        told(bench, evaluator, rows)


def read(path: Path) -> dict[str, Recipe]:
    """Every recipe in a JSON document that cuts something, in INT8."""
    recipes = [changed(one, precision="int8") for one in found(json.loads(path.read_text(encoding="utf-8")))]
    return {recipe.id: recipe for recipe in recipes if recipe.choices}


def found(document: Any) -> Iterator[Recipe]:
    """Recipes anywhere in ``document``."""
    if isinstance(document, dict) and {"choices", "criterion"} <= document.keys():
        yield Recipe.model_validate(document)
    elif isinstance(document, dict | list):
        for part in document.values() if isinstance(document, dict) else document:
            yield from found(part)


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with other values of these fields."""
    return Recipe.model_validate({**recipe.model_dump(), **fields})


def defaults(bench: Bench, prepared: Prepared, evaluator: Evaluator) -> Iterator[tuple[str, Recipe]]:
    """Uniform and solved recipes for each speed-up, by the tables."""
    tables = measure_tables(prepared, evaluator, Silent())
    for speedup in SPEEDUPS:
        for name, find in (("uniform", uniform), ("solved", solved)):
            recipe, measured = reaching(evaluator, partial(find, prepared, tables), speedup)
            if measured < BEYOND * speedup:
                bench.say(f"{name} {speedup:g}x: out of reach, {measured:.2f}x is tried instead")
            if recipe.choices:
                yield f"{name} {speedup:g}x", recipe


def reaching(
    evaluator: Evaluator, find: Callable[[float], dict[str, int] | None], speedup: float
) -> tuple[Recipe, float]:
    """What ``find`` gives for the least speed-up by the table that is ``speedup`` when it is measured.

    The fastest of all that were measured where none is, with its speed-up.
    """
    wanted, fastest = BEYOND * speedup, (DENSE, 1.0)
    for _ in range(ATTEMPTS):
        if (kept := find(wanted)) is None:
            break
        recipe = Recipe(choices={group: Keep(units=units) for group, units in kept.items()}, precision="int8")
        timed = evaluator.time({"sketch": evaluator.sketch(recipe)})
        measured = timed["reference"].median_ms / timed["sketch"].median_ms
        fastest = max(fastest, (recipe, measured), key=lambda pair: pair[1])
        if measured >= BEYOND * speedup:
            break
        wanted *= max(BEYOND * speedup / measured, 1.01)
    return fastest


def uniform(prepared: Prepared, tables: Tables, speedup: float) -> dict[str, int] | None:
    """The mildest uniform cut that is fast enough by the table; of the stream too only where that is needed."""
    space = prepared.space
    for whole in (space.shared, frozenset[str]()):
        for ratio in (n / 32 for n in range(31, 0, -1)):
            wanted = {group: 1.0 if group in whole else ratio for group in space.levels}
            kept = {group: nearest(space, group, share) for group, share in wanted.items()}
            kept = {group: units for group, units in kept.items() if units != space.sizes[group]}
            if tables.share(kept, "int8")[0] <= 1 / speedup:
                return kept
    return None


def nearest(space: BoundSpace, group: str, ratio: float) -> int:
    """The level next to that share of a group, which is not dropped."""
    return min(filter(None, space.levels[group]), key=lambda units: (abs(units - ratio * space.sizes[group]), -units))


def solved(prepared: Prepared, tables: Tables, speedup: float) -> dict[str, int] | None:
    """The solver's answer that is just fast enough by the table."""
    budgets = Budgets(prepared.space, tables, tables.damage, bearable=WORST_DAMAGE)
    mild, deep, best = 0.0, 1.0, None
    for _ in range(BISECTIONS):
        middle = (mild + deep) / 2
        kept = budgets.solve("int8", middle)
        if tables.share(kept, "int8")[0] <= 1 / speedup:
            deep, best = middle, kept
        else:
            mild = middle
    return best


def trained(bench: Bench, evaluator: Evaluator, name: str, plain: Recipe, options: argparse.Namespace) -> Trained:
    """Least squares, then as much distillation as the minutes hold."""
    refit = changed(plain, recover=("lstsq",), epochs=0.0)
    clock = time.process_time if options.clock == "cpu" else time.monotonic
    began = clock()
    module = evaluator.build(refit)
    spent = clock() - began
    before, _ = evaluator.accuracy(
        evaluator.export(module, refit, evaluator.work / "refit.onnx"), evaluator.task.validation
    )
    batches = len(evaluator.task.train)  # type: ignore[arg-type]
    step_s = seconds_per_step(evaluator, refit, batches, options.clock)
    steps = max(1, int((60 * options.minutes * MARGIN - spent) / step_s))
    bench.say(f"{name}: {100 * before:.2f} % in INT8 by least squares; {steps} steps of {step_s:.3f} s follow")
    recipe = changed(plain, recover=("lstsq", "distil"), epochs=steps / batches)
    wall, cpu = time.monotonic(), time.process_time()
    module = evaluator.build(recipe)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    exact = evaluator.export(module, changed(recipe, precision="fp32"), evaluator.work / "exact.onnx")
    artifact = evaluator.export(module, recipe, evaluator.work / f"{name.replace(' ', '-')}.onnx", fresh=True)
    after, samples = evaluator.accuracy(artifact, evaluator.task.validation)
    bench.say(f"{name}: {100 * after:.2f} % after {wall:.0f} s, {cpu:.0f} s of CPU time")
    cells = {
        "groups_cut": len(recipe.choices),
        "macs_kept": evaluator.graph.macs({g: range(units) for g, units in kept_units(recipe).items()})
        / evaluator.graph.macs({}),
        "step_s": step_s,
        "epochs": recipe.epochs,
        "wall_s": wall,
        "cpu_s": cpu,
        "refit_int8": before,
        "fp32": evaluator.accuracy(exact, evaluator.task.validation)[0],
        "int8": after,
        "samples": samples,
    }
    return Trained(name, recipe, artifact, cells)


def seconds_per_step(evaluator: Evaluator, refit: Recipe, batches: int, clock: str) -> float:
    """Of distillation, after a first step that pays for what all share."""
    now = time.process_time if clock == "cpu" else time.monotonic
    module, reference = evaluator.build(refit), Reference(dense=evaluator.graph.module())
    for steps in (1, TRIAL_STEPS):
        recipe = changed(refit, epochs=steps / batches)
        began = now()
        recovery("distil").recover(module, reference, evaluator.task, recipe)
    return (now() - began) / TRIAL_STEPS


def told(bench: Bench, evaluator: Evaluator, rows: list[Trained]) -> None:
    """Time all beside each other, then tell."""
    timed = evaluator.time({row.name: row.artifact for row in rows})
    dense_ms = timed["reference"].median_ms
    speedups = {row.name: dense_ms / timed[row.name].median_ms for row in rows}
    for row in rows:
        latency = timed[row.name]
        bench.row(
            recipe=row.name,
            speedup=speedups[row.name],
            latency_ms=latency.median_ms,
            **row.cells,
            disturbed=latency.disturbed,
        )
    for speedup in SPEEDUPS:
        fast = [row.cells["int8"] for row in rows if speedups[row.name] >= speedup]
        if fast:
            bench.figure(f"INT8 accuracy at {speedup:g}x (%)", 100 * max(fast))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    quick = "--quick" in sys.argv
    parser.add_argument("--model", default="resnet20" if quick else "resnet56", choices=("resnet20", "resnet56"))
    parser.add_argument("--minutes", type=float, default=0.5 if quick else 30.0, help="for each recipe")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--recipes", type=Path, help="JSON file with recipes")
    parser.add_argument("--out", type=Path, help="folder where the artifacts stay")
    chosen, sys.argv[1:] = parser.parse_known_args()
    main("Recovery by distillation", lambda bench: run(bench, chosen))
