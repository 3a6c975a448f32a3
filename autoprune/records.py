"""What is known of a candidate after it was tried: measurements, scores, records."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from autoprune.documents import Strict
from autoprune.hardware import Precision
from autoprune.recipe import Recipe

Stage = Literal["cut", "recover", "screen", "export", "parity", "latency", "memory", "energy", "accuracy"]
UNSETTLED = "unsettled"  # the condition that says so


class Artifact(Strict):
    """An exported model on disk."""

    path: Path
    precision: Precision
    sha256: str
    size_bytes: PositiveInt


class Measurement(Strict):
    """A latency with its circumstances; milliseconds per inference of one batch.

    An estimate has no samples: ``median_ms`` is the estimate and both ends of the interval, for what it does not know
    of the device is the same for all models, and is told by ``error_factor``.

    Attributes:
        n: samples that counted: those of the quietest blocks; 0 for an estimate. Where a sample is not one inference,
            ``statistic`` in ``conditions`` says what it is; p90, p99 and cv are then not those of inferences.
        median_ms, p90_ms, p99_ms, cv_percent: over those samples; percentiles and variation None for an estimate. Where
            the conditions say ``unsettled``, the median is that of the fastest runs of the quietest stretches of time.
        low_ms, high_ms: the 95 % interval of the median by order statistics over the block medians; each block is a
            fresh session where the runtime can renew one, so that it holds for another session of the same artifact.
            Of fastest runs, the lowest and the highest that counted.
        samples_ms: samples that counted, in the order taken; every k-th where there are more than 1,000.
        disturbed: other work used the device while much of it was timed, most blocks had to be dropped, the latency
            has not settled (``unsettled`` in the conditions), or the device was held back or slower than before, in
            spite of repetitions; the conditions say why (``disturbed_by``).
        error_factor: of an estimate: it may be off by that much either way (95 %).
        conditions: clocks, governor, temperature, load: what could be read, as read before; ``NAME_after`` where it was
            another afterwards; ``discarded``, how many measurements were, if any.
    """

    source: Literal["measured", "estimated"]
    runtime: str
    runtime_version: str
    device: str
    precision: Precision
    batch: PositiveInt
    threads: PositiveInt
    n: NonNegativeInt
    median_ms: PositiveFloat
    p90_ms: PositiveFloat | None = None
    p99_ms: PositiveFloat | None = None
    low_ms: PositiveFloat
    high_ms: PositiveFloat
    cv_percent: NonNegativeFloat | None = None
    error_factor: PositiveFloat | None = None
    disturbed: bool = False
    conditions: dict[str, str] = Field(default_factory=dict)
    samples_ms: tuple[PositiveFloat, ...] = ()

    @property
    def unsettled(self) -> bool:
        """Whether it is told by its fastest runs, because it or what was timed beside it did not settle."""
        return UNSETTLED in self.conditions


class Energy(Strict):
    """The energy of one inference of one batch, by the board's own sensors.

    Attributes:
        total_mj: all that the board drew meanwhile, in millijoules; low_mj, high_mj: its 95 % interval.
        above_idle_mj: what of it is above what the board draws while it rests with the model loaded.
        power_w, idle_w: while it ran, and while it rested, in watts.
        n: inferences.
        source: which sensors.
    """

    total_mj: PositiveFloat
    low_mj: PositiveFloat
    high_mj: PositiveFloat
    above_idle_mj: float
    power_w: PositiveFloat
    idle_w: PositiveFloat
    n: PositiveInt
    source: str


class Score(Strict):
    """The objectives of one candidate; all of the exported artifact except ``macs`` and ``parameters``.

    ``accuracy`` is the task's metric on ``samples`` validation samples; ``reference_ms`` the latency of the dense FP32
    model re-timed beside this candidate, so that ``speedup`` survives a drifting machine.
    """

    accuracy: float
    samples: PositiveInt
    latency: Measurement
    reference_ms: PositiveFloat
    size_bytes: PositiveInt
    macs: NonNegativeInt
    parameters: NonNegativeInt
    peak_memory_bytes: NonNegativeInt | None = None
    energy: Energy | None = None
    parity_error: NonNegativeFloat = 0.0

    @property
    def speedup(self) -> float:
        """Against the dense FP32 model, measured side by side."""
        return self.reference_ms / self.latency.median_ms

    @property
    def energy_mj(self) -> float | None:
        """Of one inference, in millijoules; None where it was not measured."""
        return self.energy.total_mj if self.energy else None


class Success(Strict):
    """The candidate was scored."""

    status: Literal["success"] = "success"
    score: Score


class Failure(Strict):
    """The candidate failed in ``stage``; ``kind`` is a short stable word, ``message`` a sentence."""

    status: Literal["failure"] = "failure"
    stage: Stage
    kind: str
    message: str


class Screened(Strict):
    """The candidate was given up early, because it could not reach the front; none of these numbers is a result.

    Attributes:
        share: predicted latency as a share of the dense FP32 model's: an estimate.
        accuracy: the metric on the first ``samples`` validation samples; None where not even that was needed.
        beaten_by: the recipe on the front that is faster and more accurate than it can be.
    """

    status: Literal["screened"] = "screened"
    share: PositiveFloat
    accuracy: float | None = None
    samples: NonNegativeInt = 0
    beaten_by: str


class TrialRecord(Strict):
    """One recipe and what became of it; ``stages`` holds seconds per stage."""

    recipe: Recipe
    outcome: Annotated[Success | Failure | Screened, Field(discriminator="status")]
    stages: dict[Stage, NonNegativeFloat] = Field(default_factory=dict)
    finished_at: str

    @property
    def score(self) -> Score | None:
        """The score, or None when the candidate failed or was screened out."""
        return self.outcome.score if isinstance(self.outcome, Success) else None
