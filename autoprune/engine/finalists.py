"""The end of a run: finalists are exported afresh, timed against each other, scored on the test split, bundled."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import NonNegativeFloat, ValidationError
from torch import nn

from autoprune.compress import select
from autoprune.documents import Strict
from autoprune.engine.observer import Observer
from autoprune.engine.prepare import Prepared
from autoprune.errors import RunError, StageError
from autoprune.evaluate import Evaluator
from autoprune.export import write_bundle
from autoprune.graph.cost import count_parameters
from autoprune.pareto import front
from autoprune.recipe import DENSE
from autoprune.records import Artifact, Measurement, Score, TrialRecord
from autoprune.study import Ledger, RunDirectory

MOST = 12  # finalists; a longer front is thinned evenly along its latencies


class OperatorRow(Strict):
    """What one node of an artifact's graph costs."""

    name: str
    op_type: str
    time_us: NonNegativeFloat


class Finalist(Strict):
    """One finalist as it was exported afresh and measured beside the others.

    ``score.accuracy`` is on the validation split, which the search saw; ``accuracy_test`` on the test split, which it did
    not, or None when the task has none.
    """

    record: TrialRecord
    score: Score
    accuracy_test: float | None
    samples_test: int | None
    kept: dict[str, int]
    operators: tuple[OperatorRow, ...]


class Finals(Strict):
    """``finals.json``: the dense model, then the finalists; ``left_out`` says which failed when exported afresh."""

    dense: Finalist
    finalists: tuple[Finalist, ...]
    left_out: dict[str, str]

    @classmethod
    def load(cls, directory: RunDirectory) -> "Finals":
        """Read ``finals.json``; raises RunError when it is missing or corrupted."""
        try:
            return cls.model_validate(directory.read(directory.finals))
        except ValidationError as error:
            raise RunError(f"{directory.finals} is corrupted: {error.errors()[0]['msg']}.") from error


def measure_finalists(prepared: Prepared, evaluator: Evaluator, ledger: Ledger, observer: Observer) -> Finals:
    """Export, time, score and bundle the dense model and the records on the front."""
    directory = ledger.directory
    shutil.rmtree(directory.front, ignore_errors=True)
    chosen = thinned(front(ledger.records.values(), prepared.objectives), MOST)
    records = [ledger.records[DENSE.id], *(record for record in chosen if record.recipe.id != DENSE.id)]
    left_out: dict[str, str] = {}
    modules: dict[str, nn.Module] = {}
    artifacts: dict[str, Artifact] = {}
    for number, record in enumerate(records):
        recipe = record.recipe
        observer.stage(f"exporting finalist {number + 1} of {len(records)}")
        try:
            modules[recipe.id] = evaluator.build(recipe)
            path = directory.work / f"final-{recipe.id}.onnx"
            artifacts[recipe.id] = evaluator.export(modules[recipe.id], recipe, path, fresh=True)
            evaluator.parity(artifacts[recipe.id], modules[recipe.id])
        except StageError as error:
            left_out[recipe.id] = str(error)
            artifacts.pop(recipe.id, None)
    observer.stage(f"timing {len(artifacts)} finalists against each other")
    timed = evaluator.time(artifacts)
    finals = []
    for number, record in enumerate(r for r in records if r.recipe.id in artifacts):
        observer.stage(f"scoring finalist {number + 1} of {len(artifacts)}")
        finals.append(
            _score(prepared, evaluator, record, modules[record.recipe.id], artifacts[record.recipe.id], timed)
        )
    for final in finals:
        recipe = final.record.recipe
        write_bundle(
            directory.front / recipe.id, recipe=recipe, module=modules[recipe.id], artifact=artifacts[recipe.id]
        )
    return Finals(dense=finals[0], finalists=tuple(finals[1:]), left_out=left_out)


def _score(
    prepared: Prepared,
    evaluator: Evaluator,
    record: TrialRecord,
    module: nn.Module,
    artifact: Artifact,
    timed: dict[str, Measurement],
) -> Finalist:
    task, recipe = prepared.task, record.recipe
    accuracy, samples = evaluator.accuracy(artifact, task.validation)
    test = None if task.test is None else evaluator.accuracy(artifact, task.test)
    operators = prepared.device.profile_operators(artifact, evaluator.inputs)
    score = Score(
        accuracy=accuracy,
        samples=samples,
        latency=timed[recipe.id],
        reference_ms=timed["reference"].median_ms,
        size_bytes=artifact.size_bytes,
        macs=record.score.macs if record.score else 0,
        parameters=count_parameters(module),
        peak_memory_bytes=prepared.device.peak_memory_bytes(artifact, evaluator.inputs),
    )
    return Finalist(
        record=record,
        score=score,
        accuracy_test=test[0] if test else None,
        samples_test=test[1] if test else None,
        kept={group: len(units) for group, units in select(recipe, evaluator.saliencies).items()},
        operators=tuple(OperatorRow(name=o.name, op_type=o.op_type, time_us=o.time_us) for o in operators),
    )


def thinned(records: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """At most ``most`` records, evenly spread over the order given, both ends among them."""
    places = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(int))
    return [records[place] for place in places]
