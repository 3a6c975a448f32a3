"""What a runtime supplies: open an artifact as a `Session`, say what the device is. Everything else is shared."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from autoprune.devices.lease import OnWait, ignore, lease
from autoprune.hardware import HardwareProfile, Precision
from autoprune.records import Artifact

Arrays = Sequence[np.ndarray]
Predict = Callable[[Arrays], list[np.ndarray]]


class Session(ABC):
    """One artifact, loaded, with its inputs in place. The timing loop needs nothing else of a runtime."""

    @abstractmethod
    def run(self, n: int) -> list[float]:
        """Infer ``n`` times; seconds of each, by the device's monotonic clock around nothing but the inference."""

    def renew(self) -> None:
        """Load again, elsewhere in memory, so that no measurement rests on one lucky layout. By default nothing."""
        return

    def conditions(self) -> dict[str, str]:
        """What the runtime says of how it runs this artifact. By default nothing."""
        return {}

    def foreign_seconds(self) -> float | None:
        """CPU seconds that other work has used on the device so far, divided by its cores; None where unreadable."""
        return None


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
    format: str = "onnx"  # of its artifacts, by its name in ``autoprune.export.formats``
    lease_name: str  # of what must not be shared while timing; devices on the same hardware have the same

    def __init__(self, profile: HardwareProfile) -> None:
        self.profile = profile

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
    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int:
        """How much memory loading and running ``artifact`` takes at its peak, in a process of its own."""

    @abstractmethod
    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        """What every node costs, in the order of execution; nothing where the runtime has no profiler.

        The profiler itself costs time: use it for shares.
        """

    @property
    def fingerprint(self) -> str:
        """Hash of ``facts()``: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]

    def lease(self, *, on_wait: OnWait = ignore) -> AbstractContextManager[None]:
        """Hold the device for measuring, alone on this machine; see `autoprune.devices.lease`."""
        return lease(self.lease_name, on_wait=on_wait)

    def circumstances(self, precision: Precision) -> Circumstances:
        """Those of a measurement that is made now."""
        return Circumstances(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            device=self.fingerprint,
            precision=precision,
            batch=self.profile.options.batch,
            threads=self.profile.options.threads,
            conditions=self.conditions(),
        )

    def channel_multiple(self) -> int:
        """Widths that are multiples of it pay: as the profile declares it, or as measured on the device.

        Raises:
            StageError: it is to be measured, and the device does not settle.
        """
        from autoprune.devices.staircase import staircase

        declared = self.profile.capabilities.channel_multiple
        return staircase(self).multiple if declared == "probe" else declared
