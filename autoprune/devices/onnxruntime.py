"""ONNX Runtime on the CPU of this machine."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from autoprune.devices import _cpu
from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices._operators import blocked_names, operator_times
from autoprune.devices._wire import BOOT, Connection
from autoprune.devices._worker import Worker, packed
from autoprune.devices.runners.onnxruntime import PROVIDERS, SPINNING, Runner, RunnerError, load, predict
from autoprune.errors import StageError
from autoprune.records import Artifact


class OnnxRuntimeSession(Session):
    """In this process; see `Runner`."""

    def __init__(self, artifact: Artifact, threads: int, inputs: Arrays) -> None:
        described, data = packed(inputs)
        self._runner: Any = Runner(str(artifact.path), {"threads": threads, "inputs": described}, data)
        self.renew()

    def close(self) -> None:
        """Free the memory, whoever still holds this object."""
        self._runner = None

    def renew(self) -> None:
        with _stage_errors():
            self._runner.do_renew({}, b"")

    def run(self, n: int) -> list[float]:
        with _stage_errors():
            return list(self._runner.do_run({"n": n}, b"")[0]["seconds"])

    def foreign_seconds(self) -> float:
        return _cpu.foreign_seconds()


class OnnxRuntimeDevice(Device):
    """The CPU execution provider: sequential, all graph optimisations, ``options.threads`` threads for timing.

    With more than one thread the pool spins while it waits (ONNX Runtime's default, recorded in the conditions).
    Processor affinity is left alone: a thread that is pinned cannot evade other work. Memory and operators are measured
    in a worker of an agent on this machine, which a model that takes all memory may end.
    """

    runtime = "onnxruntime"
    lease_name = "cpu"

    @property
    def runtime_version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    def facts(self) -> dict[str, str]:
        return {"runtime": self.runtime, "runtime_version": self.runtime_version, **_cpu.cpu_facts()}

    def conditions(self) -> dict[str, str]:
        return {"provider": PROVIDERS[0], SPINNING: "1", **_cpu.cpu_conditions()}

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[OnnxRuntimeSession]:
        session = OnnxRuntimeSession(artifact, self.profile.options.threads, inputs)
        try:
            yield session
        finally:
            session.close()

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        with _stage_errors():
            session = load(str(artifact.path), os.cpu_count() or 1)

        def predictions(inputs: Arrays) -> list[np.ndarray]:
            with _stage_errors():
                return predict(session, list(inputs))

        yield predictions

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int:
        with self._apart(artifact, inputs) as worker:
            return int(worker.ask("peak_memory")[0]["peak_memory_bytes"])

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        with self._apart(artifact, inputs) as worker:
            _, profile = worker.ask("profile")
        return operator_times(json.loads(profile), blocked_names(artifact.path))

    @contextlib.contextmanager
    def _apart(self, artifact: Artifact, inputs: Arrays) -> Iterator[Worker]:
        """A process of its own."""
        connection = Connection([sys.executable, "-u", "-c", BOOT], self.profile.name)
        try:
            options = {"threads": self.profile.options.threads}
            yield Worker(connection, OnnxRuntimeDevice.runtime, options, inputs, path=str(artifact.path.absolute()))
        finally:
            connection.close()


@contextlib.contextmanager
def _stage_errors() -> Iterator[None]:
    try:
        yield
    except RunnerError as failed:
        raise StageError(str(failed), kind=failed.kind) from failed
