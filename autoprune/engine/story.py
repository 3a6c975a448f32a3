"""A run directory told: everything that a report needs, read back from files alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autoprune.engine.config import RunInfo
from autoprune.engine.finalists import Finalist, Finals
from autoprune.engine.loop import DRIFT_PERCENT
from autoprune.errors import RunError
from autoprune.pareto import front, objectives
from autoprune.recipe import DENSE
from autoprune.records import Measurement, TrialRecord
from autoprune.report import Finalist as Told
from autoprune.report import RunReport, pareto_document, render_html
from autoprune.study import RunDirectory


def read_story(root: Path) -> RunReport:
    """What is known of the run in ``root``, finished or not.

    Raises:
        RunError: it is not a run, a file of it is corrupted, or the dense model was not scored yet.
    """
    directory = RunDirectory.open(root)
    info = RunInfo.load(directory)
    records = tuple(sorted(directory.records().values(), key=lambda record: record.finished_at))
    over = objectives(info.config.objectives)
    finals = Finals.load(directory) if directory.finals.is_file() else None
    if finals:
        dense, finalists = _told(finals.dense), tuple(_told(one) for one in finals.finalists)
    else:
        dense = Told.provisional(_dense(records, root))
        finalists = tuple(Told.provisional(r) for r in front(records, over) if r.recipe.id != DENSE.id)
    return RunReport(
        task=info.task_name,
        target=info.config.profile.name,
        directory=str(root),
        started_at=info.created_at,
        finished=finals is not None,
        dense=dense,
        finalists=finalists,
        records=records,
        objectives=over,
        goals=info.config.goals,
        groups={group.id: group.size for group in info.groups},
        circumstances=_circumstances(info, finals),
        warnings=tuple(_warnings(info, records, finals, dense)),
    )


def write_reports(directory: RunDirectory) -> dict[str, Any]:
    """Write ``pareto.json`` and ``report.html`` anew; the document."""
    story = read_story(directory.root)
    document = pareto_document(story)
    directory.write(directory.pareto, document)
    directory.write_text(directory.report, render_html(story))
    return document


def _told(one: Finalist) -> Told:
    return Told(
        recipe=one.recipe,
        score=one.score,
        split=one.split,
        accuracy_validation=one.accuracy_validation,
        kept=one.kept,
        operators=one.operators,
        model=f"front/{one.recipe.id}/{one.model}",
        estimated_ms=one.estimated_ms,
    )


def _dense(records: tuple[TrialRecord, ...], root: Path) -> TrialRecord:
    found = next((record for record in records if record.recipe.id == DENSE.id and record.score), None)
    if found is None:
        raise RunError(f"{root} has no result for the dense model yet: go on with 'autoprune resume {root}'.")
    return found


def _circumstances(info: RunInfo, finals: Finals | None) -> dict[str, str]:
    config, timing = info.config, info.config.profile.timing
    measured_on = finals.measured_on if finals else {}
    return {
        **{f"measured on: {key}": value for key, value in measured_on.items()},
        **{f"device: {key}": value for key, value in info.facts.items()},
        **{f"version: {key}": value for key, value in info.versions.items()},
        "runtime": f"{config.profile.runtime}, {config.profile.options.threads} thread(s)",
        "batch": str(config.profile.options.batch),
        "timing": f"{timing.blocks} blocks of {timing.block_ms:g} ms after {timing.warmup_ms:g} ms of warm-up",
        "widths": f"multiples of {info.channel_multiple}",
        "space": config.space.name,
        "strategy": f"{config.strategy}, seed {config.seed}",
        "preparation": f"{info.preparation_s:.1f} s before the first trial",
    }


def _warnings(info: RunInfo, records: tuple[TrialRecord, ...], finals: Finals | None, dense: Told) -> list[str]:
    said = [f"Results from before and after this change are mixed: {text}." for text in info.accepted]
    references = [record.score.reference_ms for record in records if record.score]
    if references and (spread := 100 * (max(references) / min(references) - 1)) > DRIFT_PERCENT:
        said.append(
            f"The machine changed speed during the search: the dense model, timed beside every candidate, took between "
            f"{min(references):.3f} and {max(references):.3f} ms ({spread:.0f} %). Speed-ups are against the dense "
            "model timed at the same moment."
        )
    said += _disturbance([record.score.latency for record in records if record.score], finals)
    if finals and dense.split == "validation":
        said.append("The task has no test split: accuracies are on the validation split, which the search saw.")
    for recipe, why in (finals.left_out if finals else {}).items():
        said.append(f"Recipe {recipe} was on the front but failed when it was exported afresh: {why}")
    return said


def _disturbance(latencies: Sequence[Measurement], finals: Finals | None) -> Iterator[str]:
    disturbed, unsettled = sum(one.disturbed for one in latencies), sum(one.unsettled for one in latencies)
    if disturbed:
        how = f"; {unsettled} did not settle and are told by their fastest runs" if unsettled else ""
        yield f"Something else slowed the device down while {disturbed} of {len(latencies)} candidates were timed{how}."
    if finals and finals.dense.score.latency.unsettled:
        yield "The models of the front did not settle beside it, and are told by their fastest runs."
