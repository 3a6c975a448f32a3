"""Any recipe of a run as a bundle of its own."""

import os
import shutil
from pathlib import Path

from autoprune.compress import select
from autoprune.engine.config import RunInfo
from autoprune.engine.observer import Observer
from autoprune.engine.prepare import changes, prepare
from autoprune.errors import CaptureError, RunError, StageError, UsageError
from autoprune.evaluate import Evaluator
from autoprune.export import read_manifest, write_bundle
from autoprune.recipe import Recipe
from autoprune.study import RunDirectory


def export_recipe(run: Path, recipe: str | None, to: Path, *, observer: Observer) -> str:
    """Write the bundle of a recipe of ``run`` into the new folder ``to``; its id.

    A finalist's is copied after its hashes were checked; any other candidate is made again from its recipe.

    Raises:
        UsageError: no such recipe, or the beginning of an id that fits several; ``to`` exists.
        RunError: the run is unfinished and no recipe is named, a file of it is corrupted, or ``to`` cannot be written.
        CaptureError: the model of the recipe cannot be made or exported any more.
    """
    directory = RunDirectory.open(run)
    if to.exists():
        raise UsageError(f"{to} exists already: give another --to.")
    chosen = _find(directory, recipe)
    source = directory.front / chosen
    if source.is_dir():
        read_manifest(source)
        _copy(source, to)
        return chosen
    record = directory.records()[chosen]
    if record.score is None:
        raise UsageError(f"Recipe {chosen} failed in the search, so there is no model of it.")
    with directory.locked():
        try:
            _make_again(record.recipe, directory, to, observer)
        except StageError as error:
            raise CaptureError(f"Recipe {chosen} cannot be exported: {error}") from error
    return chosen


def _make_again(recipe: Recipe, directory: RunDirectory, to: Path, observer: Observer) -> None:
    info = RunInfo.load(directory)
    prepared = prepare(info.config, observer)
    if changed := changes(info, prepared):
        observer.message(f"The model may differ from the one measured: since then this changed: {', '.join(changed)}.")
    evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=directory.work, notify=observer.stage)
    module = evaluator.build(recipe)
    artifact = evaluator.export(module, recipe, evaluator.path(f"export-{recipe.id}"), fresh=True)
    evaluator.parity(artifact, module)
    write_bundle(
        to,
        recipe=recipe,
        module=module,
        artifact=artifact,
        example_inputs=evaluator.samples,
        kept=select(recipe, evaluator.saliencies),
    )
    artifact.path.unlink()


def _copy(source: Path, to: Path) -> None:
    """Copy a bundle so that ``to`` is whole or not there."""
    draft = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        shutil.copytree(source, draft)
        draft.rename(to)
    except OSError as error:
        raise RunError(f"The bundle {to} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _find(directory: RunDirectory, recipe: str | None) -> str:
    if recipe is None:
        if not directory.pareto.is_file():
            raise RunError(f"{directory.root} is not finished, so no model is chosen yet: name a recipe.")
        document = directory.read(directory.pareto)
        chosen = str(document.get("chosen") if isinstance(document, dict) else None)
        if chosen not in directory.records():
            raise RunError(f"{directory.pareto} is corrupted: write it anew with 'autoprune report {directory.root}'.")
        return chosen
    known = [name for name in directory.records() if name.startswith(recipe)]
    if len(known) != 1:
        what = "No recipe of" if not known else f"More than one recipe ({', '.join(known)}) of"
        raise UsageError(
            f"{what} {directory.root} begins with '{recipe}'; 'autoprune show {directory.root}' lists them."
        )
    return known[0]
