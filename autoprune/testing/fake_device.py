"""A device with scripted latencies: ONNX Runtime computes, the script tells how long it took. Nothing is waited for."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator

from autoprune.devices import Arrays, Session
from autoprune.devices.lease import OnWait, ignore
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

Script = Iterator[float]


def steady(latency_ms: float, *, jitter_percent: float = 0.5, drift_percent: float = 0.0, seed: int = 0) -> Script:
    """Seconds per run, for ever: ``latency_ms``, with noise, growing by ``drift_percent`` with every run."""
    noise = random.Random(seed)  # noqa: S311 - not cryptography
    for run in itertools.count():
        jitter = 1 + noise.uniform(-jitter_percent, jitter_percent) / 100
        yield latency_ms / 1e3 * jitter * (1 + drift_percent / 100) ** run


class FakeSession(Session):
    """Takes its latencies from a script, and the load of other work from another."""

    def __init__(self, script: Script, *, foreign: Script | None = None) -> None:
        self._script, self._foreign = script, foreign

    def run(self, n: int) -> list[float]:
        return list(itertools.islice(self._script, n))

    def foreign_seconds(self) -> float | None:
        return next(self._foreign) if self._foreign else None


class FakeDevice(OnnxRuntimeDevice):
    """An artifact takes what ``script`` makes of it, by default 1 ms per megabyte; channels pay in multiples of 4.

    ``states`` are its conditions, one for each time that they are asked for.
    """

    runtime = "fake"
    lease_name = "fake"
    _stands_in = True

    def __init__(
        self,
        profile: HardwareProfile,
        *,
        script: Callable[[Artifact], Script] | None = None,
        states: Iterator[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(profile)
        self._states = states
        self._script = script or (lambda artifact: steady(artifact.size_bytes / 1e6))

    def facts(self) -> dict[str, str]:
        return {"cpu": "fake"}

    def conditions(self) -> dict[str, str]:
        return next(self._states) if self._states else {}

    def lease(self, *, on_wait: OnWait = ignore) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[Session]:  # type: ignore[override]
        yield FakeSession(self._script(artifact))

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int:
        return 3 * artifact.size_bytes

    def channel_multiple(self) -> int:
        return 4
