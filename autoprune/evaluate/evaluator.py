"""What the stages of a candidate need: a task, its graph, a device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from autoprune.compress import Saliencies, compress, cut, select
from autoprune.compress.batches import as_inputs
from autoprune.devices import Device
from autoprune.devices.energy import measure_energy
from autoprune.devices.steadiness import REFERENCE
from autoprune.errors import DeviceError, StageError
from autoprune.evaluate.candidate import Candidate, Notify
from autoprune.evaluate.inputs import as_arrays, calibration, timing_inputs
from autoprune.export import find_format, parity
from autoprune.graph.model import PrunableGraph
from autoprune.hardware import Precision, TimingPolicy
from autoprune.recipe import Recipe
from autoprune.records import Artifact, Energy, Measurement, Screened, TrialRecord
from autoprune.task import Task

if TYPE_CHECKING:
    from autoprune.task import Batches

SKETCH_SAMPLES = 2  # enough for activations to have a range
SCREEN_SAMPLES = 512
PAUSES_S = (1.0, 5.0, 15.0, 30.0, 30.0, 30.0)  # for a device that is lost; the last ones for one that is bad besides
T = TypeVar("T")


class Screen(Protocol):
    """What gives up candidates that cannot reach the front."""

    def __call__(self, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        """Why a recipe of this accuracy on so many samples is hopeless; None and 0 before any were scored."""

    def worth_a_glance(self) -> bool:
        """Whether it wants to know the accuracy of the next candidate on some samples."""


@dataclass(frozen=True)
class OnDevice:
    """What the device said of one artifact; ``timed`` by recipe id, and of the dense model as ``reference``."""

    parity_error: float
    timed: dict[str, Measurement]
    peak_memory_bytes: int | None
    energy: Energy | None


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
        self.format = find_format(device.format).suited(device.facts())(graph, self.samples, work)
        self.reference = self.format.candidate(graph.module().eval(), self.path("dense"))
        self._dense: dict[Precision, Artifact] = {"fp32": self.reference}
        self._stopped = threading.Event()
        self._calibration = calibration(task)

    def evaluate(self, recipe: Recipe, *, screen: Screen | None = None) -> TrialRecord:
        """All steps of a `Candidate`, one after the other; raises what they raise."""
        candidate = self.begin(recipe, screen=screen)
        try:
            candidate.make()
            candidate.measure(self.notify)
            candidate.score()
            return candidate.record()
        finally:
            candidate.close()

    def begin(self, recipe: Recipe, *, screen: Screen | None = None) -> Candidate:
        """A candidate of which nothing is done yet."""
        return Candidate(self, recipe, screen)

    def on_device(self, artifact: Artifact, module: nn.Module, enter: Notify, *, policy: TimingPolicy) -> OnDevice:
        """Parity, latency and whatever else is wanted, under one lease; all again where the device is lost meanwhile.

        Raises:
            StageError: the artifact is at fault.
            DeviceError: the device stays lost.
        """

        def work() -> OnDevice:
            with self.device.lease(on_wait=self._tell):
                enter("parity")
                error = self._parity(artifact, module)
                enter("latency")
                timed = self._time({artifact.path.stem: artifact}, policy)
                memory = None
                if self.with_memory:
                    enter("memory")
                    memory = self._memory(artifact)
                if self.with_energy:
                    enter("energy")
                return OnDevice(error, timed, memory, self._energy(artifact))

        return self._insisting(work)

    def glance(self, module: nn.Module) -> tuple[float, int]:
        """The metric of ``module`` itself on the first ``SCREEN_SAMPLES`` validation samples, and their number."""
        outputs, targets, left = [], [], SCREEN_SAMPLES
        with torch.no_grad():
            for inputs, target in self.task.validation:
                outputs.append(module(*(column[:left] for column in as_inputs(inputs))))
                targets.append(target[:left])
                if (left := left - len(targets[-1])) <= 0:
                    break
        return float(self.task.metric(torch.cat(outputs), torch.cat(targets))), SCREEN_SAMPLES - left

    def build(self, recipe: Recipe, enter: Notify = lambda stage: None) -> nn.Module:
        """The smaller model of ``recipe``, cut and recovered, in eval mode; from its weights where they were kept."""
        enter("cut")
        saved = self._weights(recipe.id)
        if saved.is_file():
            module = cut(self.graph, select(recipe, self.saliencies))
            load_model(module, saved)
            return module.eval()
        return compress(self.graph, recipe, task=self.task, saliencies=self.saliencies, notify=enter)

    def keep(self, recipes: Collection[str], newest: Candidate) -> None:
        """Keep the weights of these recipes, those of ``newest`` too if it is among them; drop all others."""
        if newest.module and newest.recipe.id in recipes:
            draft = self.work / "draft.tmp"
            save_model(newest.module, str(draft))
            draft.replace(self._weights(newest.recipe.id))
        for path in self.work.glob("*.safetensors"):
            if path.stem not in recipes:
                path.unlink()

    def stop(self) -> None:
        """Let whatever still waits for the device give up."""
        self._stopped.set()

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
        return self._sketch(recipe, self.path(f"sketch-{recipe.id}"))

    def dense(self, precision: Precision) -> Artifact:
        """The dense model in that precision, to be timed and nothing else; made once."""
        if precision not in self._dense:
            self._dense[precision] = self._sketch(Recipe(precision=precision), self.path(f"dense-{precision}"))
        return self._dense[precision]

    def _sketch(self, recipe: Recipe, path: Path) -> Artifact:
        keep = select(recipe, self.saliencies)
        few = [tuple(array[:SKETCH_SAMPLES] for array in self._calibration[0])]
        return self.format.candidate(
            cut(self.graph, keep), path, precision=recipe.precision, calibration=few, keep=keep
        )

    def path(self, name: str) -> Path:
        """Of an artifact of that name, in the device's format."""
        return self.work / f"{name}{self.format.suffix}"

    def parity(self, artifact: Artifact, module: nn.Module) -> float:
        """Largest difference between the artifact's and the module's outputs; raises StageError if too large."""
        return self._insisting(lambda: self._parity(artifact, module))

    def time(self, artifacts: Mapping[str, Artifact], policy: TimingPolicy | None = None) -> dict[str, Measurement]:
        """Latencies of ``artifacts``, and of the dense FP32 model as ``reference``; see `Device.latencies`.

        ``policy`` is the profile's where it is not given.
        """
        return self._insisting(lambda: self._time(artifacts, policy or self.device.profile.timing))

    def energy(self, artifact: Artifact) -> Energy | None:
        """The energy of one inference, where it is wanted."""
        return self._insisting(lambda: self._energy(artifact))

    def _insisting(self, work: Callable[[], T]) -> T:
        """What ``work`` gives; a device that is lost has time to come back. Raises DeviceError where it does not."""
        for pause_s in PAUSES_S:
            try:
                return work()
            except DeviceError:
                if self._stopped.wait(pause_s):
                    raise
        return work()

    def _parity(self, artifact: Artifact, module: nn.Module) -> float:
        with self.device.predictor(artifact) as predict:
            return parity(predict, module, self.task.example_inputs, precision=artifact.precision)

    def _time(self, artifacts: Mapping[str, Artifact], policy: TimingPolicy) -> dict[str, Measurement]:
        return self.device.latencies({**artifacts, REFERENCE: self.reference}, self.inputs, policy, tell=self._tell)

    def _memory(self, artifact: Artifact) -> int:
        found = self.device.peak_memory_bytes(artifact, self.inputs)
        if found is None:
            raise StageError("The device does not tell how much memory a model takes.", kind="memory")
        return found

    def _energy(self, artifact: Artifact) -> Energy | None:
        if not self.with_energy:
            return None
        with ExitStack() as stack:
            stack.enter_context(self.device.lease(on_wait=self._tell))
            session = stack.enter_context(self.device.open(artifact, self.inputs))
            return measure_energy(session, stack.enter_context(self.device.meter()))

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
