"""The end of a run: finalists are exported afresh, timed against each other, scored on the test split, bundled."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, ValidationError
from torch import nn

from autoprune.compress import select
from autoprune.documents import Strict
from autoprune.engine.held_out import HeldOut
from autoprune.engine.observer import Observer
from autoprune.engine.prepare import Prepared
from autoprune.errors import RunError, SearchError, StageError, TaskError
from autoprune.evaluate import Evaluator
from autoprune.export import write_bundle
from autoprune.graph.cost import count_macs, count_parameters
from autoprune.pareto import Goals, Objective, best, front, least_useful
from autoprune.recipe import DENSE, Recipe
from autoprune.records import Artifact, Measurement, Score, TrialRecord
from autoprune.study import Ledger, RunDirectory
from autoprune.task import Task

MOST = 10  # finalists that are cut


class OperatorRow(Strict):
    """What one node of an artifact's graph costs."""

    name: str
    op_type: str
    time_us: NonNegativeFloat


class Finalist(Strict):
    """One finalist as it was exported afresh and measured beside the others.

    ``score.accuracy`` is on ``split``: test where the task has one, which nothing saw before; ``accuracy_validation``
    is on the split that the search saw. ``operators`` is empty where the runtime has no profiler; ``model`` is the
    artifact in its bundle; ``estimated_ms`` is what a search without the device estimated.
    """

    recipe: Recipe
    score: Score
    split: Literal["validation", "test"]
    accuracy_validation: float
    kept: dict[str, int]
    operators: tuple[OperatorRow, ...]
    model: str = "model.onnx"
    estimated_ms: PositiveFloat | None = None


class Finals(Strict):
    """``finals.json``: the dense model, then the finalists; ``left_out`` says which failed when exported afresh.

    ``measured_on`` are the facts of the device, where the search only planned for it.
    """

    dense: Finalist
    finalists: tuple[Finalist, ...]
    left_out: dict[str, str]
    measured_on: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def load(cls, directory: RunDirectory) -> "Finals":
        """Read ``finals.json``; raises RunError when it is missing or corrupted."""
        try:
            return cls.model_validate(directory.read(directory.finals))
        except ValidationError as error:
            raise RunError(f"{directory.finals} is corrupted: {error.errors()[0]['msg']}.") from error


def measure_finalists(prepared: Prepared, evaluator: Evaluator, ledger: Ledger, observer: Observer) -> Finals:
    """Export afresh, time against each other, score and bundle: the dense model and the records on the front."""
    shutil.rmtree(ledger.directory.front, ignore_errors=True)
    wanted = finalists(ledger.records.values(), prepared.objectives, goals=prepared.config.goals)
    made, left_out = _export_all(wanted, evaluator, observer)
    observer.stage(f"timing {len(made)} finalists against each other")
    policy = prepared.device.profile.timing.patient()
    timed = evaluator.time({recipe: one.artifact for recipe, one in made.items()}, policy)
    held_out = HeldOut(ledger.directory, prepared.fingerprints["data"])
    finals = []
    for number, (recipe, one) in enumerate(made.items(), 1):
        observer.stage(f"scoring finalist {number} of {len(made)}")
        latency, dense_ms = timed[recipe], timed["reference"].median_ms
        finals.append(_score(prepared, evaluator, one, held_out, latency=latency, reference_ms=dense_ms))
        write_bundle(
            ledger.directory.front / recipe,
            recipe=one.record.recipe,
            module=one.module,
            artifact=one.artifact,
            example_inputs=evaluator.samples,
            kept=select(one.record.recipe, evaluator.saliencies),
        )
        one.artifact.path.unlink()
    return Finals(dense=finals[0], finalists=tuple(finals[1:]), left_out=left_out)


@dataclass(frozen=True)
class _Made:
    """A finalist, built and exported."""

    record: TrialRecord
    module: nn.Module
    artifact: Artifact


def finalists(records: Collection[TrialRecord], over: Sequence[Objective], *, goals: Goals) -> list[TrialRecord]:
    """The dense model, first as it is and then in other precisions (the floor of every comparison); then the front.

    A front of more than ``MOST`` loses what is of no use, where there are no goals, then is thinned: half of it are
    those around the model that the search would choose, as that one may fall short in the end.
    """
    whole = [record for record in records if record.score and not record.recipe.choices]
    whole.sort(key=lambda record: record.recipe.id != DENSE.id)
    cut = [record for record in front(records, over) if record.recipe.choices]
    if len(cut) <= MOST or not whole or not whole[0].score:
        return whole + cut
    dense = whole[0].score
    if goals == Goals():
        cut = [one for one in cut if one.score and one.score.accuracy >= least_useful(dense.accuracy)] or cut
    return whole + thinned(cut, MOST, around=cut.index(best(cut, over, goals=goals, dense=dense)))


def _export_all(
    records: Sequence[TrialRecord], evaluator: Evaluator, observer: Observer
) -> tuple[dict[str, _Made], dict[str, str]]:
    """What could be built and exported afresh, by recipe id; and why the others could not."""
    made: dict[str, _Made] = {}
    left_out: dict[str, str] = {}
    for number, record in enumerate(records, 1):
        recipe = record.recipe
        observer.stage(f"exporting finalist {number} of {len(records)}")
        try:
            module = evaluator.build(recipe)
            artifact = evaluator.export(module, recipe, evaluator.path(f"final-{recipe.id}"), fresh=True)
            evaluator.parity(artifact, module)
            made[recipe.id] = _Made(record, module, artifact)
        except StageError as error:
            left_out[recipe.id] = str(error)
    if DENSE.id not in made:
        raise SearchError(f"The dense model can no longer be exported: {left_out[DENSE.id]}")
    return made, left_out


def _score(
    prepared: Prepared,
    evaluator: Evaluator,
    one: _Made,
    held_out: HeldOut,
    *,
    latency: Measurement,
    reference_ms: float,
) -> Finalist:
    task, recipe, device = prepared.task, one.record.recipe, prepared.device
    validation, samples = evaluator.accuracy(one.artifact, task.validation)
    accuracy = validation
    if task.test is not None:
        accuracy, samples = held_out.score(one.artifact.sha256, lambda: _on_test(task, evaluator, one.artifact))
    score = Score(
        accuracy=accuracy,
        samples=samples,
        latency=latency,
        reference_ms=reference_ms,
        size_bytes=one.artifact.size_bytes,
        macs=count_macs(one.module, task.example_inputs),
        parameters=count_parameters(one.module),
        peak_memory_bytes=device.peak_memory_bytes(one.artifact, evaluator.inputs),
        energy=evaluator.energy(one.artifact),
    )
    operators = device.profile_operators(one.artifact, evaluator.inputs)
    return Finalist(
        recipe=recipe,
        score=score,
        split="validation" if task.test is None else "test",
        accuracy_validation=validation,
        kept={g.id: recipe.choices[g.id].units if g.id in recipe.choices else g.size for g in prepared.graph.groups},
        operators=tuple(OperatorRow(name=o.name, op_type=o.op_type, time_us=o.time_us) for o in operators),
        model=f"model{one.artifact.path.suffix}",
    )


def _on_test(task: Task, evaluator: Evaluator, artifact: Artifact) -> tuple[float, int]:
    assert task.test is not None
    try:
        return evaluator.accuracy(artifact, task.test)
    except Exception as error:  # the metric is the user's, and saw nothing of this split before
        raise TaskError(f"Task '{task.name}': the test split cannot be scored: {error}") from error


def thinned(records: Sequence[TrialRecord], most: int, *, around: int) -> list[TrialRecord]:
    """At most ``most`` records in the order given: half of them those nearest to place ``around``, the others evenly
    spread, both ends among them.
    """
    near = sorted(range(len(records)), key=lambda place: abs(place - around))[: most // 2]
    others = [place for place in range(len(records)) if place not in near]
    spread = np.linspace(0, len(others) - 1, min(most - len(near), len(others))).round().astype(int)
    return [records[place] for place in sorted({*near, *(others[n] for n in spread)})]
