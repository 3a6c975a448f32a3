"""Start a run, go on with one: the only places where a run directory is written."""

import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoprune.compress.criteria import criterion
from autoprune.engine.config import RunInfo, SearchConfig, default_out
from autoprune.engine.finalists import measure_finalists
from autoprune.engine.garbage import spared
from autoprune.engine.loop import check_candidates, check_dense, run_trials
from autoprune.engine.observer import Observer, Silent
from autoprune.engine.prepare import Prepared, changes, describe, held_clocks, prepare
from autoprune.engine.screen import Screening
from autoprune.engine.story import write_reports
from autoprune.engine.tables import measure_tables
from autoprune.errors import AutopruneError, CaptureError, DeviceError, RunError, SearchError, StageError, UsageError
from autoprune.evaluate import Evaluator, out_of_space
from autoprune.hardware import load_profile
from autoprune.pareto import Goals, objectives
from autoprune.recipe import DENSE
from autoprune.space import load_space
from autoprune.strategies import strategy
from autoprune.study import Ledger, RunDirectory
from autoprune.task import Task

SCREENED_BY = {"accuracy", "latency_ms"}  # a candidate may reach a front of other objectives for another reason


@dataclass(frozen=True)
class Run:
    """A finished run: ``document`` is its ``pareto.json``."""

    directory: Path
    document: Mapping[str, Any]

    @property
    def front(self) -> list[dict[str, Any]]:
        """The finalists, fastest first."""
        return list(self.document["front"])

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.directory / "report.html"


def configure(
    *,
    task: str | None,
    options: Mapping[str, str] | None = None,
    target: str = "cpu",
    connect: str | Sequence[str] | None = None,
    space: str = "default",
    strategy: str = "guided",
    trials: int = 40,
    objectives: Sequence[str] = ("accuracy", "latency_ms"),
    goals: Goals | None = None,
    seed: int = 0,
    allow_clock_control: bool = False,
) -> SearchConfig:
    """Resolve names into a configuration, before anything is spent.

    Raises:
        UsageError: something that does not exist or does not fit.
    """
    if trials < 1:
        raise UsageError(f"A search needs at least one trial, not {trials}.")
    wanted = load_space(space)
    _check_names(strategy, objectives, space=space, criteria=wanted.criterion)
    try:
        return SearchConfig(
            task=None if task is None else _absolute(task) if ".py" in task else task,
            task_options={key: _absolute(str(value)) for key, value in (options or {}).items()},
            profile=load_profile(target, connection=connect),
            space=wanted,
            strategy=strategy,
            trials=trials,
            objectives=tuple(objectives),
            goals=goals or Goals(),
            seed=seed,
            allow_clock_control=allow_clock_control,
        )
    except ValidationError as error:
        issue = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, issue['loc']))} cannot be {issue['input']!r}: {issue['msg']}.") from error


def goals(max_accuracy_drop: float | None, *, max_latency_ms: float | None, min_speedup: float | None) -> Goals:
    """The user's goals, checked.

    Raises:
        UsageError: a drop outside [0, 1), or a latency or speed-up that is not above 0.
    """
    try:
        return Goals(max_accuracy_drop=max_accuracy_drop, max_latency_ms=max_latency_ms, min_speedup=min_speedup)
    except ValidationError as error:
        issue = error.errors()[0]
        hint = "; it is in units of the metric: 0.01 is one point" if issue["loc"] == ("max_accuracy_drop",) else ""
        raise UsageError(f"Goal {issue['loc'][0]} cannot be {issue['input']}: {issue['msg']}{hint}.") from error


def start(
    config: SearchConfig, *, out: Path | None = None, observer: Observer | None = None, task: Task | None = None
) -> Run:
    """A new run of ``config``; ``task`` only where the configuration names none.

    Raises:
        AutopruneError: what is wrong with the input; nothing is written before the input is known to be good.
    """
    observer = observer or Silent()
    began = time.monotonic()
    if out is not None:
        RunDirectory.free(out)
    prepared = prepare(config, observer, task=task)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    directory = RunDirectory.create(out or default_out(prepared.task.name, config.profile.name, stamp))
    with directory.locked(), _safely(directory, observer), held_clocks(prepared, observer):
        info = describe(prepared, datetime.now(UTC).isoformat(timespec="seconds"))
        info = info.model_copy(update={"preparation_s": time.monotonic() - began})
        info.save(directory)
        return _drive(prepared, info, directory, observer)


def resume(
    run: Path | str,
    *,
    trials: int | None = None,
    accept_changes: bool = False,
    observer: Observer | None = None,
    task: Task | None = None,
) -> Run:
    """Go on with the run in folder ``run``; a larger ``trials`` extends it.

    Raises:
        RunError: it is not a run, is corrupted, is driven by another process, or was made under other circumstances.
    """
    observer = observer or Silent()
    directory = RunDirectory.open(Path(run))
    with directory.locked(), _safely(directory, observer):
        info = _extended(RunInfo.load(directory), trials)
        prepared = prepare(info.config, observer, task=task)
        info = _compared(info, prepared, accept_changes=accept_changes)
        info.save(directory)
        with held_clocks(prepared, observer):
            return _drive(prepared, info, directory, observer)


def search(
    *,
    task: str | Task,
    target: str = "cpu",
    connect: str | Sequence[str] | None = None,
    trials: int = 40,
    out: Path | str | None = None,
    options: Mapping[str, str] | None = None,
    space: str = "default",
    strategy: str = "guided",
    objectives: Sequence[str] = ("accuracy", "latency_ms"),
    max_accuracy_drop: float | None = None,
    max_latency_ms: float | None = None,
    min_speedup: float | None = None,
    seed: int = 0,
    allow_clock_control: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Find the Pareto-best smaller models of ``task`` for ``target``; what ``autoprune search`` does.

    Args:
        task: a built-in task's name, ``FILE.py[:FUNCTION]``, or a `Task`.
        target, space: a name that ships, or the path of a YAML file.
        connect: the way to the device, ``ssh://user@host``, in place of the profile's.
        max_accuracy_drop: in units of the metric (0.01 is one point of accuracy).
        allow_clock_control: hold the device's clocks still meanwhile; they are given back, however the run ends.

    Raises:
        AutopruneError: the input is at fault; the message says what to do.
    """
    config = configure(
        task=task if isinstance(task, str) else None,
        options=options,
        target=target,
        connect=connect,
        space=space,
        strategy=strategy,
        trials=trials,
        objectives=objectives,
        goals=goals(max_accuracy_drop, max_latency_ms=max_latency_ms, min_speedup=min_speedup),
        seed=seed,
        allow_clock_control=allow_clock_control,
    )
    own = None if isinstance(task, str) else task
    return start(config, out=None if out is None else Path(out), observer=observer, task=own)


def _drive(prepared: Prepared, info: RunInfo, directory: RunDirectory, observer: Observer) -> Run:
    directory.note("started", trials=info.config.trials, autoprune=info.versions["autoprune"])
    directory.finals.unlink(missing_ok=True)
    observer.stage("exporting the dense model")
    try:
        evaluator = Evaluator(
            prepared.task,
            prepared.graph,
            prepared.device,
            work=directory.work,
            with_memory="peak_memory_bytes" in info.config.objectives,
            with_energy="energy_mj" in info.config.objectives,
            notify=observer.stage,
            tell=observer.message,
        )
    except StageError as error:
        raise CaptureError(f"The dense model of task '{info.task_name}' cannot be used: {error}") from error
    # where only a precision is left to choose, there is nothing to make tables of
    chosen = strategy(info.config.strategy if prepared.space.levels else "random")
    with spared():
        tables = measure_tables(prepared, evaluator, observer) if chosen.needs_tables else None
    search = chosen.begin(prepared.space, seed=info.config.seed, tables=tables, goals=info.config.goals)
    ledger = Ledger(directory, prepared.objectives, search.suggest)
    screen = Screening(tables, ledger.records) if tables and set(info.config.objectives) == SCREENED_BY else None
    try:
        with spared():
            run_trials(prepared, evaluator, ledger, observer, search=search, screen=screen)
    finally:
        ledger.close()
    check_dense(ledger.records[DENSE.id])
    finals = measure_finalists(prepared, evaluator, ledger, observer)
    directory.write(directory.finals, finals.model_dump(mode="json"))
    document = write_reports(directory)
    check_candidates(ledger.records)
    directory.note("finished")
    return Run(directory.root, document)


@contextmanager
def _safely(directory: RunDirectory, observer: Observer) -> Iterator[None]:
    """Keep the whole traceback in the log, and say how to go on."""
    logging.captureWarnings(True)
    try:
        yield
    except KeyboardInterrupt:
        with suppress(RunError):
            directory.note("stopped")
        done = len(list(directory.trials.glob("*.json")))
        observer.message(f"Stopped; {done} results are safe. Go on with: autoprune resume {directory.root}")
        raise
    except Exception as error:
        if out_of_space(error, directory.root):
            raise RunError(
                f"The disk that holds {directory.root} is full; every finished result is safe. Make room, then go on "
                f"with: autoprune resume {directory.root}"
            ) from error
        try:
            directory.note("failed", error=str(error), traceback=traceback.format_exc())
        except RunError:
            observer.message("The log cannot be written either.")
        if isinstance(error, DeviceError):
            raise DeviceError(
                f"{error} Every finished result is safe; when the device is back, go on with: "
                f"autoprune resume {directory.root}"
            ) from error
        if isinstance(error, StageError):
            raise SearchError(
                f"The finalists cannot be compared: {error} Every trial is safe; try again with: "
                f"autoprune resume {directory.root}"
            ) from error
        if not isinstance(error, AutopruneError):
            observer.message(f"Every finished result is safe in {directory.root}; the traceback is in its log.jsonl.")
        raise


def _extended(info: RunInfo, trials: int | None) -> RunInfo:
    if trials is None or trials == info.config.trials:
        return info
    if trials < info.config.trials:
        raise UsageError(f"The run has {info.config.trials} trials already; --trials {trials} cannot take any back.")
    return info.model_copy(update={"config": info.config.model_copy(update={"trials": trials})})


def _compared(info: RunInfo, prepared: Prepared, *, accept_changes: bool) -> RunInfo:
    """Refuse to mix results of different circumstances, or note that the user wants it."""
    changed = changes(info, prepared)
    if not changed:
        return info
    text = ", ".join(changed)
    if info.fingerprints.get("device") != prepared.fingerprints["device"]:
        raise RunError(
            f"Since the run was started, this changed: {text}. Latencies of two devices are not mixed: start a new run."
        )
    if not accept_changes:
        raise RunError(
            f"Since the run was started, this changed: {text}. Start a new run, or mix them with --accept-changes."
        )
    fresh = describe(prepared, info.created_at)
    return fresh.model_copy(update={"accepted": (*info.accepted, text), "preparation_s": info.preparation_s})


def _check_names(strategy_name: str, objective_names: Sequence[str], *, space: str, criteria: Sequence[str]) -> None:
    strategy(strategy_name)
    objectives(objective_names)
    for name in criteria:
        try:
            criterion(name)
        except UsageError as error:
            raise UsageError(f"Space '{space}': {error}") from error


def _absolute(text: str) -> str:
    """``text``, made independent of the working folder where it names a file or folder that exists."""
    path, colon, function = text.rpartition(":")
    if path.endswith(".py"):
        return f"{Path(path).resolve()}{colon}{function}"
    try:
        return str(Path(text).resolve()) if Path(text).exists() else text
    except (OSError, ValueError):  # too long for a path, or not made of characters of one
        return text
