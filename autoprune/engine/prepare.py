"""From a configuration to everything that a search needs: task, graph, device, bound space."""

import io
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from autoprune.devices import Device, open_device
from autoprune.engine.config import GroupInfo, RunInfo, SearchConfig
from autoprune.engine.observer import Observer
from autoprune.errors import CaptureError, RunError, StageError, TargetError
from autoprune.graph.model import PrunableGraph
from autoprune.pareto import Objective, objectives
from autoprune.space import BoundSpace
from autoprune.task import Task
from autoprune.tasks import check_task, fingerprint, load_task

NOT_ESTIMATED = frozenset({"peak_memory_bytes", "energy_mj"})
T = TypeVar("T")
PACKAGES = ("autoprune", "torch", "onnx", "onnxruntime", "onnxscript", "optuna", "numpy")


@dataclass(frozen=True)
class Prepared:
    """A task, its graph, an open device and the space that they leave."""

    config: SearchConfig
    task: Task
    graph: PrunableGraph
    device: Device
    space: BoundSpace
    fingerprints: dict[str, str]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is optimised."""
        return objectives(self.config.objectives)


def prepare(config: SearchConfig, observer: Observer, *, task: Task | None = None) -> Prepared:
    """Load and check the task, capture its model, open and probe the device, bind the space.

    Raises:
        TaskError, CaptureError, TargetError, SpaceError: what is wrong with the user's input.
    """
    observer.stage("loading the task")
    task = task or load(config)
    for note in check_task(task).notes:
        observer.message(note)
    observer.stage("opening the device")
    device = open_device(config.profile, notify=observer.message)
    _check_plan(device, config, observer)
    if "peak_memory_bytes" in config.objectives and not device.tells_memory:
        raise TargetError(
            f"Target '{device.profile.name}' does not tell how much memory a model takes, so 'peak_memory_bytes' "
            "cannot be an objective."
        )
    if "energy_mj" in config.objectives:
        with device.meter():  # or say at once that it cannot be read
            pass
    observer.stage("analysing the model")
    graph = capture(task)
    _check_batch(graph, task)
    observer.stage("probing the device")
    space = config.space.bind(
        graph.groups,
        precisions=_probed(device, device.precisions),
        channel_multiple=_probed(device, device.channel_multiple),
        seed=config.seed,
    )
    return Prepared(config, task, graph, device, space, {**fingerprint(task), "device": device.fingerprint})


def held_clocks(prepared: Prepared, observer: Observer) -> AbstractContextManager[None]:
    """The device's clocks, held still where the user allows it."""
    allowed = prepared.config.allow_clock_control
    return prepared.device.steady_clocks(observer.message) if allowed else nullcontext()


def capture(task: Task) -> PrunableGraph:
    """The task's model as a graph.

    Raises:
        CaptureError: torch.export refuses it, or it has nothing to prune.
    """
    with _silenced():
        graph = PrunableGraph.capture(task.model(), task.example_inputs)
    if not graph.groups:
        reasons = "; ".join(sorted({f"{blocked.operator}: {blocked.reason}" for blocked in graph.blocked})[:3])
        raise CaptureError(
            f"The model of task '{task.name}' has nothing to prune: no channels, heads or hidden units can be cut"
            + (f" ({reasons})." if reasons else ".")
        )
    return graph


def _check_batch(graph: PrunableGraph, task: Task) -> None:
    if not graph.dynamic_batch:
        raise CaptureError(
            f"The model of task '{task.name}' works with batches of {len(task.example_inputs[0])} only: torch.export "
            "cannot make its batch size variable, and candidates are recovered and scored in larger batches. Look in "
            "forward() for a size of the batch written as a number, such as x.reshape(1, -1) for x.flatten(1)."
        )


@contextmanager
def _silenced() -> Iterator[None]:
    """torch.export logs and prints the graph so far when it gives up; the error that it raises says what is wrong."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _check_plan(device: Device, config: SearchConfig, observer: Observer) -> None:
    """Say that latencies are estimates where they are; raises TargetError where an objective has none."""
    if not device.estimates:
        return
    name = device.profile.name
    if unknown := NOT_ESTIMATED.intersection(config.objectives):
        raise TargetError(
            f"Target '{name}' is not at hand, and {' and '.join(sorted(unknown))} cannot be estimated: say where it "
            "is, with --connect ssh://user@host, or choose other objectives."
        )
    observer.message(
        f"No device is connected: latencies on {name} are estimated from its data sheet, nothing is measured on it."
    )


def describe(prepared: Prepared, created_at: str) -> RunInfo:
    """What ``run.json`` holds of a prepared run."""
    groups = (GroupInfo(id=g.id, kind=g.kind, size=g.size, macs=g.macs) for g in prepared.graph.groups)
    return RunInfo(
        config=prepared.config,
        task_name=prepared.task.name,
        created_at=created_at,
        versions=versions(),
        fingerprints=prepared.fingerprints,
        facts=prepared.device.facts(),
        groups=tuple(groups),
        channel_multiple=prepared.space.channel_multiple,
    )


def changes(info: RunInfo, prepared: Prepared) -> list[str]:
    """What is no longer as it was when the run was started, in words."""
    said = {
        "code": "the code that defines the task",
        "weights": "the dense model's weights",
        "data": "the task's data",
        "device": "the device",
    }
    now = prepared.fingerprints
    found = [said.get(key, key) for key, was in info.fingerprints.items() if now.get(key) != was]
    ours = versions()
    return found + [
        f"{name} {was} (now {ours.get(name, 'absent')})" for name, was in info.versions.items() if ours.get(name) != was
    ]


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def load(config: SearchConfig) -> Task:
    """The task that ``config`` names.

    Raises:
        TaskError: it is wrong.
        RunError: it names none.
    """
    if config.task is None:
        raise RunError(
            "This run was started from Python with a Task object: give it again, autoprune.resume(..., task=...)."
        )
    return load_task(config.task, config.task_options)


def _probed(device: Device, capability: Callable[[], T]) -> T:
    """As declared or probed; raises TargetError where the device does not settle."""
    try:
        return capability()
    except StageError as error:
        raise TargetError(
            f"The device of target '{device.profile.name}' cannot be probed: {error} Try again when it is quieter, or "
            "declare its capabilities in a profile of your own."
        ) from error
