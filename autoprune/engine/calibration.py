"""A latency table of one task on one device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.engine.config import default_name
from autoprune.engine.garbage import spared
from autoprune.engine.prepare import held_clocks, prepare
from autoprune.errors import RunError, StageError, TargetError
from autoprune.evaluate import Evaluator
from autoprune.files import write_whole
from autoprune.latency import Calibration, Effort, Store
from autoprune.report import render_latency

if TYPE_CHECKING:
    from autoprune.engine.config import SearchConfig
    from autoprune.engine.observer import Observer
    from autoprune.latency import LatencyTable
    from autoprune.task import Task


def calibrate(
    config: SearchConfig,
    *,
    observer: Observer,
    task: Task | None = None,
    effort: Effort | None = None,
    fresh: bool = False,
) -> LatencyTable:
    """Measure what cutting each group to each width and precision of the space saves on the device.

    What was timed before on this device and model is read from the user's cache, unless ``fresh``; a killed calibration
    goes on where it was.

    Raises:
        AutopruneError: as `autoprune.engine.start`; TargetError when the device does not settle.
    """
    prepared = prepare(config, observer, task=task)
    if prepared.device.estimates:
        raise TargetError(
            f"A latency table is measured, and target '{config.profile.name}' is somewhere else: say where, with "
            "--connect ssh://user@host."
        )
    with tempfile.TemporaryDirectory(prefix="autoprune-") as folder, held_clocks(prepared, observer):
        observer.stage("exporting the dense model")
        evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=Path(folder), tell=observer.message)
        store = Store.of(prepared.device, evaluator.reference)
        if fresh:
            store.clear()
        measuring = Calibration(evaluator, prepared.space, store, effort or Effort(), observer.stage, observer.message)
        try:
            with spared():
                return measuring.run(task=prepared.task.name, target=prepared.device.profile.name)
        except StageError as error:
            raise TargetError(
                f"The latency table cannot be finished: {error} What was timed is kept; try again when it is quieter."
            ) from error


def write_table(table: LatencyTable, out: Path | None) -> Path:
    """Write ``latency.json`` and ``latency.html`` into ``out``, by default ``tables/<task>-<target>``; that folder.

    Raises:
        RunError: it cannot be written.
    """
    folder = out or Path("tables") / default_name(table.task, table.target)
    try:
        write_whole(folder / "latency.json", (table.model_dump_json(indent=1) + "\n").encode())
        write_whole(folder / "latency.html", render_latency(table).encode())
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder
