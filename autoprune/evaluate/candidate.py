"""One recipe on its way through the stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from autoprune.devices.steadiness import REFERENCE
from autoprune.evaluate.faults import failure, innocent
from autoprune.graph.cost import count_macs, count_parameters
from autoprune.recipe import DENSE
from autoprune.records import Failure, Score, Screened, Stage, Success, TrialRecord

if TYPE_CHECKING:
    from torch import nn

    from autoprune.evaluate.evaluator import Evaluator, OnDevice, Screen
    from autoprune.recipe import Recipe
    from autoprune.records import Artifact

STEPS: tuple[Stage, ...] = ("cut", "parity", "accuracy")  # by their first stages
Notify = Callable[[Stage], None]


class StageClock:
    """Seconds per stage, and which stage it is in; ``notify`` is told of every stage that begins."""

    def __init__(self, first: Stage, notify: Notify) -> None:
        self.seconds: dict[Stage, float] = {}
        self.stage = first
        self._notify = notify
        self._since = time.monotonic()

    def enter(self, stage: Stage) -> None:
        """Close the present stage and begin ``stage``."""
        self.close()
        self.stage = stage
        self._notify(stage)

    def close(self) -> None:
        """Close the present stage."""
        now = time.monotonic()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self._since
        self._since = now


class Candidate:
    """One recipe: made here, measured on the device, scored here, in this order.

    A fault of the candidate ends it: the record says at which stage. What is no fault of it is raised: an
    `AutopruneError` other than `StageError`, or a full disk. `measure` may run in another thread beside `score`, and
    beside the steps of other candidates. `close` must be called, whatever happens.

    Attributes:
        module: the smaller model, once it was made.
    """

    def __init__(self, evaluator: Evaluator, recipe: Recipe, screen: Screen | None = None) -> None:
        self.recipe = recipe
        self.evaluator, self.screen = evaluator, screen
        self._seconds: dict[Stage, float] = {}
        self._ended: dict[Stage, Failure | Screened] = {}  # by the first stage of a step
        self.module: nn.Module | None = None
        self._artifact: Artifact | None = None
        self._measured: OnDevice | None = None
        self._accuracy: tuple[float, int] | None = None

    def end(self, outcome: Screened) -> None:
        """Give it up."""
        self._ended["cut"] = outcome

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do, because it failed or was screened out."""
        return bool(self._ended)

    def make(self) -> None:
        """Cut, recover, screen, export.

        The screen is asked before anything is done, and again where it wants to know the accuracy on some samples.
        """
        with self._step("cut", self.evaluator.notify) as clock:
            if self.screen and (given_up := self.screen(self.recipe, None, 0)) is not None:
                self.end(given_up)
                return
            module = self.module = self.evaluator.build(self.recipe, clock.enter)
            if self.screen and self.recipe.choices and self.screen.worth_a_glance():
                clock.enter("screen")
                if (given_up := self.screen(self.recipe, *self.evaluator.glance(module))) is not None:
                    self.end(given_up)
                    return
            clock.enter("export")
            self._artifact = self.evaluator.export(module, self.recipe, self.evaluator.path(self.recipe.id))

    def measure(self, notify: Notify = lambda stage: None) -> None:
        """Everything that needs the device."""
        if self._artifact and self.module and not self.ended:
            timing = self.evaluator.device.profile.timing
            policy = timing.patient() if self.recipe == DENSE else timing  # without it there is no search
            with self._step("parity", notify) as clock:
                self._measured = self.evaluator.on_device(self._artifact, self.module, clock.enter, policy=policy)

    def score(self) -> None:
        """The accuracy of the artifact on the validation split."""
        if self._artifact and not self.ended:
            with self._step("accuracy", self.evaluator.notify) as clock:
                clock.enter("accuracy")
                self._accuracy = self.evaluator.accuracy(self._artifact, self.evaluator.task.validation)

    def close(self) -> None:
        """Drop the artifact."""
        if self._artifact:
            self._artifact.path.unlink(missing_ok=True)

    def record(self) -> TrialRecord:
        """What became of it; raises RuntimeError before all steps are done."""
        ends = [self._ended[step] for step in STEPS if step in self._ended]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        outcome = ends[0] if ends else Success(score=self._scored())
        return TrialRecord(recipe=self.recipe, outcome=outcome, stages=self._seconds, finished_at=now)

    def _scored(self) -> Score:
        if not (self.module and self._artifact and self._measured and self._accuracy):
            raise RuntimeError("A candidate has no record before it was made, measured and scored.")
        found, inputs = self._measured, self.evaluator.task.example_inputs
        accuracy, samples = self._accuracy
        return Score(
            accuracy=accuracy,
            samples=samples,
            latency=found.timed[self.recipe.id],
            reference_ms=found.timed[REFERENCE].median_ms,
            size_bytes=self._artifact.size_bytes,
            macs=count_macs(self.module, inputs),
            parameters=count_parameters(self.module),
            peak_memory_bytes=found.peak_memory_bytes,
            energy=found.energy,
            parity_error=found.parity_error,
        )

    @contextmanager
    def _step(self, first: Stage, notify: Notify) -> Iterator[StageClock]:
        """One step of the way; a fault of the candidate is its end, others are raised."""
        clock = StageClock(first, notify)
        try:
            yield clock
        except Exception as error:  # whatever a candidate breaks, the run goes on
            if innocent(error, self.evaluator.work):
                raise
            self._ended[first] = failure(error, clock.stage)
        finally:
            clock.close()
            self._seconds |= clock.seconds
