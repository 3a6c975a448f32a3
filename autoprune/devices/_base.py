"""What a runtime supplies: open an artifact as a `Session`, say what the device is. Everything else is shared."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from autoprune.devices.lease import OnWait, ignore, lease
from autoprune.errors import TargetError
from autoprune.hardware import HardwareProfile, Precision, TimingPolicy
from autoprune.records import Artifact, Measurement

if TYPE_CHECKING:
    from autoprune.devices.energy import Meter
    from autoprune.devices.steadiness import Look, State, Steadiness

Arrays = Sequence[np.ndarray]
Predict = Callable[[Arrays], list[np.ndarray]]
Statistic = Literal["each", "mean", "median"]


class Session(ABC):
    """One artifact, loaded, with its inputs in place. The timing loop needs nothing else of a runtime.

    Attributes:
        anew: every `run` with some runs is a process of its own that loads the artifact and warms it up.
        statistic: what `run` gives: ``each`` duration, or one figure over all of them, their ``mean`` or ``median``.
    """

    anew: bool = False
    statistic: Statistic = "each"

    @abstractmethod
    def run(self, n: int) -> list[float]:
        """Infer ``n`` times; seconds as ``statistic`` says, by the device's clock around nothing but the inference."""

    def renew(self) -> None:
        """Load again, elsewhere in memory, so that no measurement rests on one lucky layout. By default nothing."""
        return

    def conditions(self) -> dict[str, str]:
        """What the runtime says of how it runs this artifact. By default nothing."""
        return {}

    def foreign_seconds(self) -> float | None:
        """CPU seconds that other work has used on the device so far, divided by its cores; None where unreadable."""
        return None

    def block(self, lead_in: int, n: int) -> tuple[list[float], float | None]:
        """What the timing loop takes in one go: `watched`, renewed before and led in by ``lead_in`` runs."""
        if not self.anew:
            self.renew()
            self.run(lead_in)
        return self.watched(n)

    def watched(self, n: int) -> tuple[list[float], float | None]:
        """What `run` gives, and by how much `foreign_seconds` grew meanwhile."""
        before = self.foreign_seconds()
        samples = self.run(n)
        after = self.foreign_seconds()
        return samples, None if before is None or after is None else after - before


@dataclass(frozen=True)
class Circumstances:
    """Under what a latency is measured; the fields are those of `Measurement`."""

    runtime: str
    runtime_version: str
    device: str
    precision: Precision
    batch: int
    threads: int
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorTime:
    """What one node of the graph costs: median over the runs that were profiled."""

    name: str
    op_type: str
    time_us: float


class Device(ABC):
    """One device, reached by one runtime.

    ``open``, ``predictor``, ``peak_memory_bytes`` and ``profile_operators`` raise ``StageError`` when the artifact
    does not load or run: of kind ``out_of_memory`` or ``runtime``.
    """

    runtime: str
    computes: bool = True  # `predictor` does so on the device; otherwise here, and parity is not checked there
    format: str = "onnx"  # of its artifacts, by its name in ``autoprune.export.formats``
    lease_name: str  # of what must not be shared while timing; devices on the same hardware have the same
    tells_memory: bool = True  # whether `peak_memory_bytes` is known
    estimates = False  # whether latencies are estimates, since the device is not at hand

    def __init__(self, profile: HardwareProfile) -> None:
        self.profile = profile

    @property
    def at_once(self) -> int:
        """How many leases it gives at once, to as many threads; a pool has several devices."""
        return 1

    @property
    @abstractmethod
    def runtime_version(self) -> str:
        """As the runtime reports it."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What the device is: everything that must stay the same while results are compared, nothing that drifts."""

    @abstractmethod
    def conditions(self) -> dict[str, str]:
        """What drifts, read now: clock, governor, temperature, load."""

    @abstractmethod
    def open(self, artifact: Artifact, inputs: Arrays) -> AbstractContextManager[Session]:
        """Load ``artifact`` for timing, with ``inputs`` (one array per graph input, the batch first) in place."""

    @abstractmethod
    def predictor(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        """Load ``artifact`` for parity: a function from input arrays to output arrays, on all cores."""

    def scorer(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        """Load ``artifact`` for accuracy, which takes thousands of samples; by default where it is timed."""
        return self.predictor(artifact)

    @abstractmethod
    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int | None:
        """How much memory loading and running ``artifact`` takes at its peak, in a process of its own.

        None where the device does not tell.
        """

    @abstractmethod
    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        """What every node costs, in the order of execution; nothing where that cannot be told.

        The profiler itself costs time: use it for shares.
        """

    def latencies(
        self, artifacts: Mapping[str, Artifact], inputs: Arrays, policy: TimingPolicy, *, tell: OnWait = ignore
    ) -> dict[str, Measurement]:
        """Latencies of all ``artifacts``, interleaved under one lease, while nothing holds the device back.

        What they say of such devices is remembered for estimates. ``tell`` hears of every wait.

        Raises:
            StageError: an artifact does not load, run or settle, or the device is in use for too long.
            DeviceError: it is in another power mode than when it was first measured.
        """
        from autoprune.devices.estimate import remember
        from autoprune.devices.timing import measure_together

        with ExitStack() as stack:
            stack.enter_context(self.lease(on_wait=tell))
            sessions = {name: stack.enter_context(self.open(one, inputs)) for name, one in artifacts.items()}

            def measure(state: State, look: Look) -> dict[str, Measurement]:
                circumstances = {name: self.circumstances(one.precision, state) for name, one in artifacts.items()}
                return measure_together(sessions, policy, circumstances, look=look)

            found = self._steadiness.insist(measure, policy, tell)
        remember(self.profile, artifacts, found)
        return found

    @cached_property
    def _steadiness(self) -> Steadiness:
        from autoprune.devices.steadiness import Steadiness

        return Steadiness(self)

    @property
    def fingerprint(self) -> str:
        """Hash of ``facts()``: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]

    def lease(self, *, on_wait: OnWait = ignore) -> AbstractContextManager[None]:
        """Hold the device for measuring, alone on this machine; see `autoprune.devices.lease`."""
        return lease(self.lease_name, on_wait=on_wait)

    @contextmanager
    def steady_clocks(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the clocks still meanwhile, and give them back as they were; by default nothing is known to hold.

        ``tell`` hears what is held, and what is refused, which is no error.
        """
        tell(f"The clocks of device '{self.profile.name}' are left as they are: autoprune cannot hold them.")
        yield

    def meter(self) -> AbstractContextManager[Meter]:
        """Watches what the device draws. Raises TargetError where it does not say, as by default."""
        raise TargetError(
            f"Target '{self.profile.name}' does not say what it draws, so 'energy_mj' cannot be an objective: "
            f"autoprune knows no way to ask runtime '{self.runtime}'."
        )

    def circumstances(self, precision: Precision, conditions: Mapping[str, str] | None = None) -> Circumstances:
        """Those of a measurement that is made now; ``conditions`` where they were read already."""
        return Circumstances(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            device=self.fingerprint,
            precision=precision,
            batch=self.profile.options.batch,
            threads=self.profile.options.threads,
            conditions=self.conditions() if conditions is None else conditions,
        )

    def channel_multiple(self) -> int:
        """Widths that are multiples of it pay: as the profile declares it, or as measured on the device.

        Raises:
            StageError: it is to be measured, and the device does not settle, or the runtime fails.
        """
        from autoprune.devices.staircase import staircase

        declared = self.profile.capabilities.channel_multiple
        return staircase(self).multiple if declared == "probe" else declared

    def precisions(self) -> tuple[Precision, ...]:
        """Those that pay, FP32 among them where they are measured. Raises as `channel_multiple`."""
        from autoprune.devices.gains import gains

        declared = self.profile.capabilities.precisions
        return gains(self).precisions if declared == "probe" else declared
