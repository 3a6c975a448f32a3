"""Recipe -> TrialRecord: the stages of one candidate, in order."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from autoprune.compress import Saliencies, compress, cut, select
from autoprune.compress.batches import seeded, take
from autoprune.devices import Device
from autoprune.devices.energy import measure_energy
from autoprune.devices.steadiness import REFERENCE
from autoprune.errors import AutopruneError, DeviceError, StageError
from autoprune.export import find_format, parity
from autoprune.graph.cost import count_macs, count_parameters
from autoprune.graph.model import PrunableGraph
from autoprune.hardware import TimingPolicy
from autoprune.recipe import Recipe
from autoprune.records import Artifact, Energy, Failure, Measurement, Score, Screened, Stage, Success, TrialRecord
from autoprune.task import Task

if TYPE_CHECKING:
    from autoprune.task import Batches

CALIBRATION_SAMPLES = 128
FULL = ("No space left", "disk is full")  # the system's words, and SQLite's
SKETCH_SAMPLES = 2  # enough for activations to have a range
LITTLE_SPACE = 1_000_000  # bytes; an export that fails with less free than that failed for want of it
SCREEN_SAMPLES = 512
PAUSES_S = (1.0, 5.0, 15.0, 30.0, 30.0, 30.0)  # for a device that is lost; the last ones for one that is bad besides
T = TypeVar("T")
Notify = Callable[[Stage], None]
Screen = Callable[[Recipe, float | None, int], Screened | None]
"""From a recipe, its accuracy on some samples and their number (None, 0 before there are any) to why it is hopeless."""


class StageClock:
    """Seconds per stage of one candidate, and which stage it is in."""

    def __init__(self, notify: Notify) -> None:
        self.seconds: dict[Stage, float] = {}
        self.stage: Stage = "cut"
        self._notify = notify
        self._since = time.monotonic()

    def enter(self, stage: Stage) -> None:
        """Close the present stage and begin ``stage``."""
        now = time.monotonic()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self._since
        self.stage, self._since = stage, now
        self._notify(stage)

    def close(self) -> dict[Stage, float]:
        """Close the last stage; seconds of all."""
        self.enter(self.stage)
        return self.seconds


class Evaluator:
    """Scores recipes of one task on one device.

    Args:
        task: checked.
        graph: captured from the task's model.
        device: opened; a lease is held while it times.
        work: folder for artifacts; weights of successful candidates stay in it until dropped.
        with_memory: measure the peak memory of every candidate, not only of the finalists.
        with_energy: measure the energy of every candidate and of the finalists.
        notify: told of every stage that begins.
        tell: told what the user should read.
    """

    def __init__(
        self,
        task: Task,
        graph: PrunableGraph,
        device: Device,
        *,
        work: Path,
        with_memory: bool = False,
        with_energy: bool = False,
        notify: Notify = lambda stage: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.task, self.graph, self.device = task, graph, device
        self.work = work
        self.work.mkdir(parents=True, exist_ok=True)
        self.with_memory, self.with_energy = with_memory, with_energy
        self.notify = notify
        self._tell = tell
        self.saliencies = Saliencies(graph, task)
        self.inputs = timing_inputs(task, device.profile.options.batch)
        self.samples = tuple(map(torch.from_numpy, self.inputs))
        self.format = find_format(device.format)(graph, self.samples, work)
        self.reference = self.format.candidate(graph.module().eval(), self.path("dense"))
        self._last: tuple[str, nn.Module] | None = None
        self._calibration = calibration(task)

    def evaluate(self, recipe: Recipe, *, screen: Screen | None = None) -> TrialRecord:
        """Run every stage; a fault of the candidate becomes a ``Failure`` that names the stage.

        ``screen`` is asked before anything is done and again when the accuracy on the first ``SCREEN_SAMPLES``
        validation samples is known; its answer ends the evaluation.

        What is no fault of the candidate is raised: an `AutopruneError` other than `StageError`, or a full disk.
        """
        clock = StageClock(self.notify)
        outcome: Success | Failure | Screened | None
        try:
            outcome = screen(recipe, None, 0) if screen else None
            outcome = outcome or self._score(recipe, clock, screen)
        except Exception as error:  # whatever a candidate breaks, the run goes on
            no_fault = isinstance(error, AutopruneError) and not isinstance(error, StageError)
            if no_fault or out_of_space(error, self.work):
                raise
            outcome = _failure(error, clock.stage)
        finally:
            seconds = clock.close()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return TrialRecord(recipe=recipe, outcome=outcome, stages=seconds, finished_at=now)

    def _score(self, recipe: Recipe, clock: StageClock, screen: Screen | None) -> Success | Screened:
        module = self.build(recipe, clock.enter)
        if screen and recipe.choices:
            clock.enter("screen")
            if (given_up := screen(recipe, *self.glance(module))) is not None:
                return given_up
        clock.enter("export")
        artifact = self.export(module, recipe, self.path(recipe.id))
        try:
            clock.enter("parity")
            error = self.parity(artifact, module)
            clock.enter("latency")
            timed = self.time({recipe.id: artifact})
            memory = None
            if self.with_memory:
                clock.enter("memory")
                memory = self._insisting(lambda: self._memory(artifact))
            if self.with_energy:
                clock.enter("energy")
            energy = self.energy(artifact)
            clock.enter("accuracy")
            accuracy, samples = self.accuracy(artifact, self.task.validation)
        finally:
            artifact.path.unlink(missing_ok=True)
        score = Score(
            accuracy=accuracy,
            samples=samples,
            latency=timed[recipe.id],
            reference_ms=timed[REFERENCE].median_ms,
            size_bytes=artifact.size_bytes,
            macs=count_macs(module, self.task.example_inputs),
            parameters=count_parameters(module),
            peak_memory_bytes=memory,
            energy=energy,
            parity_error=error,
        )
        return Success(score=score)

    def glance(self, module: nn.Module) -> tuple[float, int]:
        """The metric of ``module`` itself on the first ``SCREEN_SAMPLES`` validation samples, and their number."""
        outputs, targets = [], []
        with torch.no_grad():
            for inputs, target in self.task.validation:
                outputs.append(module(*((inputs,) if isinstance(inputs, Tensor) else inputs)))
                targets.append(target)
                if sum(map(len, targets)) >= SCREEN_SAMPLES:
                    break
        return float(self.task.metric(torch.cat(outputs), torch.cat(targets))), sum(map(len, targets))

    def build(self, recipe: Recipe, enter: Notify = lambda stage: None) -> nn.Module:
        """The smaller model of ``recipe``, cut and recovered, in eval mode; from its weights where they were kept."""
        enter("cut")
        saved = self._weights(recipe.id)
        if saved.is_file():
            module = cut(self.graph, select(recipe, self.saliencies))
            load_model(module, saved)
            return module.eval()
        module = compress(self.graph, recipe, task=self.task, saliencies=self.saliencies, notify=enter)
        self._last = (recipe.id, module)
        return module

    def keep(self, recipes: Collection[str]) -> None:
        """Keep the weights of these recipes, of the last one evaluated too if it is among them; drop all others."""
        if self._last and self._last[0] in recipes:
            draft = self.work / "draft.tmp"
            save_model(self._last[1], str(draft))
            draft.replace(self._weights(self._last[0]))
        for path in self.work.glob("*.safetensors"):
            if path.stem not in recipes:
                path.unlink()

    def _weights(self, recipe: str) -> Path:
        return self.work / f"{recipe}.safetensors"

    def export(self, module: nn.Module, recipe: Recipe, path: Path, *, fresh: bool = False) -> Artifact:
        """The artifact of ``module`` in the recipe's precision; ``fresh`` does without the fast path."""
        if fresh:
            return self.format.write(
                module, self.samples, path, precision=recipe.precision, calibration=self._calibration
            )
        keep = select(recipe, self.saliencies)
        return self.format.candidate(module, path, precision=recipe.precision, calibration=self._calibration, keep=keep)

    def sketch(self, recipe: Recipe) -> Artifact:
        """An artifact with the recipe's shapes and precision, to be timed and nothing else: its weights are as cut."""
        keep = select(recipe, self.saliencies)
        few = [tuple(array[:SKETCH_SAMPLES] for array in self._calibration[0])]
        path = self.path(f"sketch-{recipe.id}")
        return self.format.candidate(
            cut(self.graph, keep), path, precision=recipe.precision, calibration=few, keep=keep
        )

    def path(self, name: str) -> Path:
        """Of an artifact of that name, in the device's format."""
        return self.work / f"{name}{self.format.suffix}"

    def parity(self, artifact: Artifact, module: nn.Module) -> float:
        """Largest difference between the artifact's and the module's outputs; raises StageError if too large."""

        def compare() -> float:
            with self.device.predictor(artifact) as predict:
                return parity(predict, module, self.task.example_inputs, precision=artifact.precision)

        return self._insisting(compare)

    def _insisting(self, work: Callable[[], T]) -> T:
        """What ``work`` gives; a device that is lost has time to come back. Raises DeviceError where it does not."""
        for pause_s in PAUSES_S:
            try:
                return work()
            except DeviceError:
                time.sleep(pause_s)
        return work()

    def time(self, artifacts: Mapping[str, Artifact], policy: TimingPolicy | None = None) -> dict[str, Measurement]:
        """Latencies of ``artifacts``, and of the dense FP32 model as ``reference``; see `Device.latencies`.

        ``policy`` is the profile's where it is not given.
        """
        everything = {**artifacts, REFERENCE: self.reference}
        policy = policy or self.device.profile.timing
        return self._insisting(lambda: self.device.latencies(everything, self.inputs, policy, tell=self._tell))

    def _memory(self, artifact: Artifact) -> int:
        found = self.device.peak_memory_bytes(artifact, self.inputs)
        if found is None:
            raise StageError("The device does not tell how much memory a model takes.", kind="memory")
        return found

    def energy(self, artifact: Artifact) -> Energy | None:
        """The energy of one inference, where it is wanted."""

        def measure() -> Energy:
            with ExitStack() as stack:
                stack.enter_context(self.device.lease(on_wait=self._tell))
                session = stack.enter_context(self.device.open(artifact, self.inputs))
                return measure_energy(session, stack.enter_context(self.device.meter()))

        return self._insisting(measure) if self.with_energy else None

    def accuracy(self, artifact: Artifact, batches: Batches) -> tuple[float, int]:
        """The task's metric of the artifact over a split, and the number of samples."""
        outputs, targets = [], []
        with self.device.scorer(artifact) as predict:
            for inputs, target in batches:
                outputs.append(torch.from_numpy(predict(as_arrays(inputs))[0]))
                targets.append(target)
        value = float(self.task.metric(torch.cat(outputs), torch.cat(targets)))
        if not isfinite(value):
            raise StageError(f"The metric of the artifact is {value}.", kind="metric")
        return value, sum(len(target) for target in targets)


def _failure(error: Exception, stage: Stage) -> Failure:
    if isinstance(error, StageError):
        return Failure(stage=stage, kind=error.kind, message=str(error))
    if isinstance(error, MemoryError):
        return Failure(stage=stage, kind="out_of_memory", message=f"Out of memory: {error}")
    return Failure(stage=stage, kind=type(error).__name__, message=str(error) or repr(error))


def out_of_space(error: BaseException | None, folder: Path) -> bool:
    """Whether ``error`` comes from a full disk; libraries wrap the system's refusal or hide it, so space counts too."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(said in str(error) for said in FULL):
            return True
        if isinstance(error, StageError) and error.kind == "export" and disk_usage(folder).free < LITTLE_SPACE:
            return True
        error = error.__cause__ or error.__context__
    return False


def as_arrays(inputs: Tensor | tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    """Inputs of one batch as the runtimes take them."""
    tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
    return tuple(tensor.numpy() for tensor in tensors)


def timing_inputs(task: Task, batch: int) -> list[np.ndarray]:
    """The task's example inputs, repeated or cut to ``batch`` samples."""
    return [np.resize(array, (batch, *array.shape[1:])) for array in as_arrays(task.example_inputs)]


def calibration(task: Task) -> list[tuple[np.ndarray, ...]]:
    """Inputs of the first training samples, the same ones in every process."""
    with seeded(0):
        batches = take(task, CALIBRATION_SAMPLES, batch=CALIBRATION_SAMPLES)
    return [as_arrays(inputs) for inputs, _ in batches]
