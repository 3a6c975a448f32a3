"""A runtime on this machine: its runner, in this process."""

from __future__ import annotations

import contextlib
import importlib
import sys
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from autoprune.devices import _cpu
from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices._wire import BOOT, Connection
from autoprune.devices._worker import Worker, packed, unpacked
from autoprune.devices.clocks import HeldClocks, Tell
from autoprune.devices.energy import Meter
from autoprune.devices.runners.board import Board
from autoprune.errors import StageError
from autoprune.records import Artifact


class LocalSession(Session):
    """Timed in this process; see the runner of its runtime."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.renew()

    def close(self) -> None:
        """Free the memory, whoever still holds this object."""
        self._runner = None

    def renew(self) -> None:
        with stage_errors():
            self._runner.do_renew({}, b"")

    def run(self, n: int) -> list[float]:
        with stage_errors():
            return list(self._runner.do_run({"n": n}, b"")[0]["seconds"])

    def foreign_seconds(self) -> float:
        return _cpu.foreign_seconds()


class LocalDevice(Device):
    """Base of the runtimes that ship: the same runner works here, and in a worker of the agent on another device.

    Memory and operators are measured in a worker of an agent on this machine, which a model that takes all memory may
    end.
    """

    runner: ClassVar[str]
    """Its module in ``autoprune.devices.runners``."""
    imports: ClassVar[tuple[str, ...]] = ()
    """What takes longest of the runner's start, so that the agent imports it once for all of them."""
    needs: ClassVar[str]
    """The Python module without which it does not work."""
    install: ClassVar[str]
    """The command that installs it."""
    gpu: ClassVar[bool] = False
    """Whether it works on the GPU, whose clocks, throttling and power count then."""
    lease_name = "cpu"
    _clocks: HeldClocks | None = None

    @classmethod
    @abstractmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        """What the runner's ``profile`` says; raises a built-in error if it is none."""

    @cached_property
    def _hello(self) -> dict[str, Any]:
        found: dict[str, Any] = self._runner("").do_hello({}, b"")[0]
        return found

    @property
    def runtime_version(self) -> str:
        return str(self._hello["version"])

    def facts(self) -> dict[str, str]:
        told = self._hello.get("facts", {})
        return {"runtime": self.runtime, "runtime_version": self.runtime_version, **Board().facts(), **told}

    def conditions(self) -> dict[str, str]:
        held = {"clocks": self._clocks.said} if self._clocks else {}
        return {**self._hello.get("conditions", {}), **Board(gpu=self.gpu).conditions(), **held}

    @contextlib.contextmanager
    def meter(self) -> Iterator[Meter]:
        with self._agent() as connection:
            yield Meter(connection, gpu=self.gpu)

    @contextlib.contextmanager
    def steady_clocks(self, tell: Tell) -> Iterator[None]:
        with self._agent() as connection:
            self._clocks = HeldClocks(connection, tell, gpu=self.gpu)
            try:
                yield
            finally:
                self._clocks.release()
                self._clocks = None

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[LocalSession]:
        session = LocalSession(self._runner(str(artifact.path), inputs))
        try:
            yield session
        finally:
            session.close()

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        runner = self._runner(str(artifact.path))
        with stage_errors():
            runner.do_load({}, b"")

        def predict(inputs: Arrays) -> list[np.ndarray]:
            described, data = packed(inputs)
            with stage_errors():
                reply, outputs = runner.do_predict({"inputs": described}, data)
            return unpacked(reply["outputs"], outputs)

        yield predict

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int:
        with self._apart(artifact, inputs) as worker:
            return int(worker.ask("peak_memory")[0]["peak_memory_bytes"])

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        with self._apart(artifact, inputs) as worker:
            _, profile = worker.ask("profile")
        return self.operators(profile, artifact)

    def _runner(self, path: str, inputs: Arrays = ()) -> Any:
        described, data = packed(inputs)
        module = importlib.import_module(f"autoprune.devices.runners.{self.runner}")
        return module.Runner(path, {**self.profile.options.model_dump(), "inputs": described}, data)

    @contextlib.contextmanager
    def _apart(self, artifact: Artifact, inputs: Arrays) -> Iterator[Worker]:
        """A process of its own."""
        with self._agent() as connection:
            yield Worker(connection, type(self), self.profile.options, inputs, path=str(artifact.path.absolute()))

    @contextlib.contextmanager
    def _agent(self) -> Iterator[Connection]:
        connection = Connection([sys.executable, "-u", "-c", BOOT], self.profile.name)
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def stage_errors() -> Iterator[None]:
    """What a runner raises, as the same `StageError` that the agent makes of it."""
    try:
        yield
    except Exception as failed:
        kind = "out_of_memory" if isinstance(failed, MemoryError) else str(getattr(failed, "kind", "runtime"))
        raise StageError(str(failed) or type(failed).__name__, kind=kind) from failed
