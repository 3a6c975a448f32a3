"""A device that a connection reaches: its runtime works in a worker of the agent there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np

from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices._wire import Connection
from autoprune.devices._worker import BOARD, BYTES_PER_SECOND, SECONDS, Worker, packed, unpacked
from autoprune.devices.clocks import HeldClocks, Tell
from autoprune.devices.energy import Meter
from autoprune.devices.lease import GPU, OnWait, ignore
from autoprune.devices.local import LocalDevice
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.errors import DeviceError, StageError
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

LEASE_SECONDS, POLL_SECONDS = 3600.0, 0.5
LONGEST = 1000  # of what the device says of itself, each
T = TypeVar("T")


class RemoteSession(Session):
    """Timed on the device, by its clock."""

    def __init__(self, worker: Worker, *, anew: bool = False) -> None:
        self._worker, self.anew = worker, anew
        self._conditions: dict[str, str] = {}
        self.renew()

    def renew(self) -> None:
        self._conditions = _texts(self._worker.ask("renew")[0], "conditions")

    def conditions(self) -> dict[str, str]:
        return self._conditions

    def run(self, n: int) -> list[float]:
        return _durations(self._worker.ask(**_run(n))[0])

    def foreign_seconds(self) -> float | None:
        return None if self.anew else _number(self._worker.ask("foreign")[0].get("seconds"))

    def block(self, lead_in: int, n: int) -> tuple[list[float], float | None]:
        """One question, since each takes as long as the way there and back, at every block of every measurement."""
        if self.anew:
            return super().block(lead_in, n)
        renew, foreign = {"do": "renew"}, {"do": "foreign"}
        renewed, _, before, ran, after = self._worker.ask_in_turn(renew, _run(lead_in), foreign, _run(n), foreign)
        self._conditions = _texts(renewed, "conditions")
        first, last = _number(before.get("seconds")), _number(after.get("seconds"))
        if first is None or last is None:
            return _durations(ran), None
        return _durations(ran), last - first


class RemoteDevice(Device):
    """One runtime on one device that ``command`` leads to; connects when it is first asked something.

    Accuracy is scored on this machine, on the same artifact; that the device computes the same is what parity is for.
    A way is a subclass that makes the command of ``profile.connection``.
    """

    def __init__(self, profile: HardwareProfile, command: Sequence[str]) -> None:
        super().__init__(profile)
        self.runtime = profile.runtime
        kind: type[LocalDevice] = importlib.import_module(f"autoprune.devices.runtimes.{profile.runtime}").DEVICE
        self._kind, self.format = kind, kind.format
        self.lease_name = hashlib.sha256(profile.connection.encode()).hexdigest()[:16]
        self._leased = kind.leased(profile)
        self._held = False  # by the agent there, for us
        self._command = command
        self._connected: Connection | None = None
        self._asked: Connection | None = None  # for its facts
        self._board: Worker | None = None  # behind that connection
        self._clocks: HeldClocks | None = None  # likewise
        self._tell: Tell | None = None  # of clocks, while they are to be held
        self._facts: dict[str, str] = {}
        self._settings: dict[str, str] = {}  # of the runtime there

    @property
    def runtime_version(self) -> str:
        return self.facts()["runtime_version"]

    def facts(self) -> dict[str, str]:
        """Raises DeviceError where they are no longer what they were when they were first asked for."""
        connection = self._connection()
        if self._asked is not connection:
            with self._worker(None, ()) as worker:
                version = str(worker.hello.get("version", ""))[:LONGEST]
                more, self._settings = _texts(worker.hello, "facts"), _texts(worker.hello, "conditions")
            board = self._says(lambda: Worker(connection, BOARD))
            found = {"runtime": self.runtime, "runtime_version": version, **_texts(board.hello, "facts"), **more}
            self._check(found)
            self._asked, self._board, self._facts = connection, board, found
            if self._tell:  # those of a connection that is gone were given back when it ended
                self._clocks = HeldClocks(connection, self._tell, gpu=self._leased == GPU)
        return dict(self._facts)

    def _check(self, found: Mapping[str, str]) -> None:
        changed = [key for key, was in self._facts.items() if found.get(key) != was]
        if changed:
            self.close()
            told = ", ".join(f"{key} was {self._facts[key]}, is {found.get(key, 'unknown')}" for key in changed)
            raise DeviceError(f"Device '{self.profile.name}' has changed while it was away: {told}.")

    def conditions(self) -> dict[str, str]:
        self.facts()
        assert self._board
        board = self._board
        reply, _ = self._says(lambda: board.ask("conditions", gpu=self._leased == GPU))
        held = {"clocks": self._clocks.said} if self._clocks else {}
        return {**self._settings, **_texts(reply, "conditions"), **held}

    @contextlib.contextmanager
    def meter(self) -> Iterator[Meter]:
        meter = Meter(self._connection(), gpu=self._leased == GPU)
        try:
            yield meter
        finally:
            meter.close()

    @contextlib.contextmanager
    def steady_clocks(self, tell: Tell) -> Iterator[None]:
        self._tell, self._asked = tell, None  # so that they are held when its facts are asked for
        try:
            self.facts()
            yield
        finally:
            if self._clocks:
                self._clocks.release()
            self._tell = self._clocks = None

    def _says(self, question: Callable[[], T]) -> T:
        """What the board says of itself; what goes wrong then is no fault of a candidate."""
        try:
            return question()
        except StageError as error:
            self.close()
            raise DeviceError(f"Device '{self.profile.name}' cannot say how it is: {error}") from error

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[RemoteSession]:
        with self._worker(artifact, inputs) as worker:
            yield RemoteSession(worker, anew=self._kind.anew)

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        with self._worker(artifact, ()) as worker:
            worker.ask("load")

            def predict(inputs: Arrays) -> list[np.ndarray]:
                described, data = packed(inputs)
                reply, outputs = worker.ask("predict", data, inputs=described)
                return unpacked(reply.get("outputs"), outputs)

            yield predict

    def scorer(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        kind = OnnxRuntimeDevice if artifact.path.suffix == ".onnx" else self._kind
        return kind.here().predictor(artifact)

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int:
        with self._worker(artifact, inputs) as worker:
            found = worker.ask("peak_memory")[0].get("peak_memory_bytes")
        if not isinstance(found, int) or found < 0:
            raise DeviceError(f"Device '{self.profile.name}' gave {str(found)[:LONGEST]} for a number of bytes.")
        return found

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        with self._worker(artifact, inputs) as worker:
            _, profile = worker.ask("profile")
        try:
            return self._kind.operators(profile, artifact)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeviceError(f"Device '{self.profile.name}' gave a profile that cannot be read: {error!r}.") from error

    @contextlib.contextmanager
    def lease(self, *, on_wait: OnWait = ignore) -> Iterator[None]:
        """Held here, and on the device, where others may measure too. Raises StageError as `Device.lease`."""
        with super().lease(on_wait=on_wait):
            if self._held:  # a lease may be taken again
                yield
                return
            connection = self._connection()
            self._hold(connection, on_wait)
            self._held = True
            try:
                yield
            finally:
                self._held = False
                with contextlib.suppress(DeviceError):
                    connection.ask("release", timeout_s=SECONDS, name=self._leased)

    def _hold(self, connection: Connection, on_wait: OnWait) -> None:
        told, until = False, time.monotonic() + LEASE_SECONDS
        while not connection.ask("lease", timeout_s=SECONDS, name=self._leased)[0].get("held"):
            if not told:
                on_wait(f"Waiting for device '{self.profile.name}': another process measures on it.")
                told = True
            if time.monotonic() > until:
                message = f"Device '{self.profile.name}' was still in use by another process after {LEASE_SECONDS:g} s."
                raise StageError(message, kind="busy")
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End the connection; it is made again when the device is asked something."""
        if self._connected:
            self._connected.close()

    def _connection(self) -> Connection:
        if self._connected is None or self._connected.closed:
            self._connected = Connection(self._command, self.profile.name)
            weakref.finalize(self, self._connected.close)
        return self._connected

    @contextlib.contextmanager
    def _worker(self, artifact: Artifact | None, inputs: Arrays) -> Iterator[Worker]:
        connection = self._connection()
        sent = {"sha256": _sent(connection, artifact)} if artifact else {}
        worker = Worker(connection, self._kind, self._kind.settings(self.profile), inputs, **sent)
        try:
            yield worker
        finally:
            worker.close()


def _sent(connection: Connection, artifact: Artifact) -> str:
    """The hash of the artifact, which the device has from here on."""
    data = artifact.path.read_bytes()
    name = hashlib.sha256(data).hexdigest()
    if not connection.ask("has", timeout_s=SECONDS, sha256=name)[0].get("has"):
        connection.ask("put", timeout_s=SECONDS + len(data) / BYTES_PER_SECOND, data=data, sha256=name)
    return name


def _run(n: int) -> dict[str, Any]:
    return {"do": "run", "n": n}


def _durations(reply: Mapping[str, Any]) -> list[float]:
    told = reply.get("seconds")
    seconds = [_number(one) for one in told] if isinstance(told, list) else [None]
    if None in seconds:
        raise DeviceError("The device gave no list of durations: it runs no agent of ours.")
    return [one for one in seconds if one is not None]


def _number(told: object) -> float | None:
    """None where it is none, or none that a float can hold."""
    with contextlib.suppress(OverflowError):
        return float(told) if isinstance(told, int | float) else None
    return None


def _texts(reply: Mapping[str, Any], key: str) -> dict[str, str]:
    told = reply.get(key)
    return {str(name): str(value)[:LONGEST] for name, value in told.items()} if isinstance(told, dict) else {}
