"""Any recipe of a run as a bundle of its own."""

import shutil
from pathlib import Path

from autoprune.compress import select
from autoprune.engine.config import RunInfo
from autoprune.engine.observer import Observer
from autoprune.engine.prepare import prepare
from autoprune.errors import RunError, UsageError
from autoprune.evaluate import Evaluator
from autoprune.export import read_manifest, write_bundle
from autoprune.study import RunDirectory


def export_recipe(run: Path, recipe: str | None, to: Path, *, observer: Observer) -> str:
    """Write the bundle of a recipe of ``run`` into the new folder ``to``; its id.

    A finalist's is copied after its hashes were checked; any other candidate is made again from its recipe.

    Raises:
        UsageError: no such recipe, or the beginning of an id that fits several; ``to`` exists.
        RunError: the run is unfinished and no recipe is named, or a file of it is corrupted.
    """
    directory = RunDirectory.open(run)
    if to.exists():
        raise UsageError(f"{to} exists already: give another --to.")
    chosen = _find(directory, recipe)
    source = directory.front / chosen
    if source.is_dir():
        read_manifest(source)
        shutil.copytree(source, to)
        return chosen
    record = directory.records()[chosen]
    if record.score is None:
        raise UsageError(f"Recipe {chosen} failed in the search, so there is no model of it.")
    prepared = prepare(RunInfo.load(directory).config, observer)
    evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=directory.work, notify=observer.stage)
    module = evaluator.build(record.recipe)
    artifact = evaluator.export(module, record.recipe, directory.work / f"export-{chosen}.onnx", fresh=True)
    evaluator.parity(artifact, module)
    write_bundle(
        to,
        recipe=record.recipe,
        module=module,
        artifact=artifact,
        example_inputs=prepared.task.example_inputs,
        kept=select(record.recipe, evaluator.saliencies),
    )
    artifact.path.unlink()
    return chosen


def _find(directory: RunDirectory, recipe: str | None) -> str:
    if recipe is None:
        if not directory.pareto.is_file():
            raise RunError(f"{directory.root} is not finished, so no model is chosen yet: name a recipe.")
        return str(directory.read(directory.pareto)["chosen"])
    known = [name for name in directory.records() if name.startswith(recipe)]
    if len(known) != 1:
        what = "no recipe" if not known else f"{len(known)} recipes"
        raise UsageError(
            f"{what} of {directory.root} begins with '{recipe}'; 'autoprune show {directory.root}' lists them."
        )
    return known[0]
