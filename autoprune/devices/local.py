"""A runtime on this machine: its runner, in this process."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from autoprune.devices import _cpu
from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices._wire import BOOT, CANDIDATES, Connection
from autoprune.devices._worker import SECONDS, Worker, packed, unpacked
from autoprune.devices.clocks import HeldClocks, Tell
from autoprune.devices.energy import Meter
from autoprune.devices.lease import CPU, GPU
from autoprune.devices.runners.board import Board
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import HardwareProfile, RuntimeOptions
from autoprune.records import Artifact


class LocalSession(Session):
    """Timed in this process; see the runner of its runtime."""

    def __init__(self, runner: Any, *, anew: bool = False) -> None:
        self._runner, self.anew = runner, anew
        self._conditions: dict[str, str] = {}
        self.renew()

    def close(self) -> None:
        """Free the memory, whoever still holds this object."""
        self._runner = None

    def renew(self) -> None:
        with stage_errors():
            self._conditions = self._runner.do_renew({}, b"")[0].get("conditions", {})

    def conditions(self) -> dict[str, str]:
        return self._conditions

    def run(self, n: int) -> list[float]:
        with stage_errors():
            return list(self._runner.do_run({"n": n}, b"")[0]["seconds"])

    def foreign_seconds(self) -> float | None:
        return None if self.anew else _cpu.foreign_seconds()


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
    converts: ClassVar[str] = ""
    """The Python module without which its artifacts cannot be made, where that is one more."""
    install: ClassVar[str]
    """The command that installs them."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Of `RuntimeOptions`, those that it knows beside ``threads`` and ``batch``."""
    deadline_s: ClassVar[float] = SECONDS
    """For one request to its runner, beside what the connection takes."""

    anew: ClassVar[bool] = False
    """As `Session.anew`; the work of those processes cannot be told from that of others."""

    _clocks: HeldClocks | None = None
    _stands_in = False  # for another device, whose artifacts may saturate on this one alone

    def __init__(self, profile: HardwareProfile) -> None:
        super().__init__(profile)
        self.lease_name = self.leased(profile)

    @classmethod
    def here(cls) -> Self:
        """This machine, whatever a profile says of another: what others are scored on and compared with.

        Raises TargetError where the runtime is missing.
        """
        profile = HardwareProfile(name="here", description="this machine", runtime=cls.runtime)
        if missing := cls.missing(profile.options):
            raise TargetError(f"What a device computes is compared with runtime '{cls.runtime}' here: {missing}")
        device = cls(profile)
        device._stands_in = True
        return device

    @classmethod
    def leased(cls, profile: HardwareProfile) -> str:
        """What must not be shared while timing."""
        return CPU

    @classmethod
    def missing(cls, options: RuntimeOptions) -> str:
        """What to install here, in a sentence; empty where it works."""
        missing = [name for name in (cls.needs, cls.converts) if name and not importlib.util.find_spec(name)]
        return f"package '{missing[0]}' is not installed; get it with: {cls.install}" if missing else ""

    @classmethod
    def settings(cls, profile: HardwareProfile) -> dict[str, Any]:
        """What the runner is told."""
        return profile.options.model_dump(exclude_none=True)

    @classmethod
    @abstractmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        """What the runner's ``profile`` says; raises a built-in error if it is none."""

    @cached_property
    def _hello(self) -> dict[str, Any]:
        """Raises TargetError where the runtime does not work here."""
        try:
            found: dict[str, Any] = self._runner("").do_hello({}, b"")[0]
        except Exception as error:
            raise TargetError(f"Profile '{self.profile.name}': runtime '{self.runtime}' fails: {error}") from error
        return found

    @property
    def runtime_version(self) -> str:
        return str(self._hello["version"])

    def facts(self) -> dict[str, str]:
        told = self._hello.get("facts", {})
        return {"runtime": self.runtime, "runtime_version": self.runtime_version, **Board().facts(), **told}

    def conditions(self) -> dict[str, str]:
        held = {"clocks": self._clocks.said} if self._clocks else {}
        return {**self._hello.get("conditions", {}), **Board(gpu=self.lease_name == GPU).conditions(), **held}

    @contextlib.contextmanager
    def meter(self) -> Iterator[Meter]:
        with self._agent() as connection:
            yield Meter(connection, gpu=self.lease_name == GPU)

    @contextlib.contextmanager
    def steady_clocks(self, tell: Tell) -> Iterator[None]:
        with self._agent() as connection:
            self._clocks = HeldClocks(connection, tell, gpu=self.lease_name == GPU)
            try:
                yield
            finally:
                self._clocks.release()
                self._clocks = None

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[LocalSession]:
        session = LocalSession(self._runner(str(artifact.path), inputs), anew=self.anew)
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
        with stage_errors():
            settings = {**self.settings(self.profile), "precise": self._stands_in, "inputs": described}
            return module.Runner(path, settings, data)

    @contextlib.contextmanager
    def _apart(self, artifact: Artifact, inputs: Arrays) -> Iterator[Worker]:
        """A process of its own."""
        with self._agent() as connection:
            yield Worker(
                connection, type(self), self.settings(self.profile), inputs, path=str(artifact.path.absolute())
            )

    @contextlib.contextmanager
    def _agent(self) -> Iterator[Connection]:
        connection = Connection([sys.executable, "-u", "-c", BOOT], self.profile.name)
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def stage_errors() -> Iterator[None]:
    """What a runner raises, as the same error that is made of what the agent says of it."""
    try:
        yield
    except Exception as failed:
        kind = "out_of_memory" if isinstance(failed, MemoryError) else str(getattr(failed, "kind", "runtime"))
        if kind not in CANDIDATES:
            raise DeviceError(str(failed)) from failed
        raise StageError(str(failed) or type(failed).__name__, kind=kind) from failed
