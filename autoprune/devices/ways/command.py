"""A device that programs of this machine reach and use: the profile says how, in command lines."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from typing import ClassVar, TypeVar

import numpy as np

from autoprune.commands import PLACEHOLDERS, filled
from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices._caller import UNREAD, Caller, CommandError, Model, words
from autoprune.devices._files import read_outputs
from autoprune.devices._guard import afterwards
from autoprune.devices._reading import UnreadError, durations
from autoprune.devices.lease import OnWait, ignore
from autoprune.devices.local import LocalDevice
from autoprune.errors import AutopruneError, DeviceError, StageError, TargetError
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

ADDRESS = re.compile(r"\w[\w.:@/%+-]*", re.ASCII)
SCORERS = {"onnx": "onnxruntime", "tflite": "litert", "executorch": "executorch"}  # here, by format
TRIES = 3
CLOCKS = "held by the profile's commands"
LONGEST = 1000  # of what the device says of itself, each
T = TypeVar("T")


class CommandSession(Session):
    """Timed by the device's own tool; every call of it loads the model anew and warms it up as the tool does."""

    anew = True

    def __init__(self, device: CommandDevice, model: Model) -> None:
        self._device, self._model = device, model
        self.statistic = device.commands.parse.gives

    def run(self, n: int) -> list[float]:
        return self._device.timed(self._model, n) if n else []


class CommandDevice(Device):
    """One device, used by the command lines of ``profile.command``.

    Who is to blame where ``run`` or ``predict`` fails: unless it hung, it is tried again with everything sent anew, as
    a device that is lost now and then fails ``TRIES`` times in a row only rarely. Then a model is run that ran here
    before. If that one runs, the candidate is to blame, otherwise the device. Where none ever ran, it is the model if
    the command says so by its exit status, and the profile if its output is not as ``parse`` says.
    """

    scheme: ClassVar[str] = "command"
    tells_memory = False

    def __init__(self, profile: HardwareProfile) -> None:
        super().__init__(profile)
        if profile.command is None:
            raise TargetError(f"Profile '{profile.name}' has no section 'command', which '{self.scheme}' needs.")
        self.runtime, self.commands = profile.runtime, profile.command
        self.format = self.commands.format
        self.computes = bool(self.commands.predict)
        self.caller = Caller(profile, self.commands)
        self.caller.values["address"] = self._address()
        self.lease_name = hashlib.sha256(repr((profile.connection, self.commands.run)).encode()).hexdigest()[:16]
        self._facts: dict[str, str] = {}
        self._witness: Model | None = None  # it ran here
        self._kept = contextlib.ExitStack()
        self._held = False  # its clocks
        weakref.finalize(self, self.caller.close)

    def _address(self) -> str:
        scheme, _, address = self.profile.connection.partition("://")
        if scheme != self.scheme or (address and not ADDRESS.fullmatch(address)):
            raise TargetError(
                f"'{self.profile.connection}' is no address of a device: it looks like {self.scheme}, or like "
                f"{self.scheme}://ADDRESS, where ADDRESS is of letters, digits and .:@/%+-_."
            )
        return address or self._default_address()

    def _default_address(self) -> str:
        if any(self.commands.uses(step, "address") for step in PLACEHOLDERS):
            raise TargetError(
                f"Profile '{self.profile.name}' uses {{address}}, and its connection names none: "
                f"say where the device is, with --connect {self.scheme}://ADDRESS."
            )
        return ""

    def check(self) -> None:
        """Whether it is there, as far as that can be told without using it. Raises DeviceError."""

    @property
    def runtime_version(self) -> str:
        return self.facts()["runtime_version"]

    def facts(self) -> dict[str, str]:
        """Asked for once, and again by every lease."""
        self._facts = self._facts or self._ask()
        return dict(self._facts)

    def _ask(self) -> dict[str, str]:
        self.check()
        self.caller.set_up()
        tool = self.caller.tool
        version = f"sha256 {hashlib.sha256(tool.read_bytes()).hexdigest()[:16]}" if tool else "unknown"
        told = {name: self._told(line) for name, line in self.commands.facts.items()}
        lines = hashlib.sha256(repr((self.commands.run, self.commands.parse)).encode())
        return {"runtime_version": version, **told, "runtime": self.runtime, "commands": lines.hexdigest()[:16]}

    def _told(self, line: tuple[str, ...]) -> str:
        try:
            return self.caller.call(line).out.strip()[:LONGEST]
        except CommandError as error:
            raise DeviceError(f"Device '{self.profile.name}' does not tell what it is: {error}") from error

    def conditions(self) -> dict[str, str]:
        found = {} if self.computes else {"parity": "checked on this machine, not on the device"}
        found |= {"clocks": CLOCKS} if self._held else {}
        for name, line in self.commands.conditions.items():
            with contextlib.suppress(DeviceError):  # what cannot be read is left out
                found[name] = self._told(line)
        return found

    @contextlib.contextmanager
    def steady_clocks(self, tell: OnWait) -> Iterator[None]:
        """By the profile's commands; a guard gives them back, whatever becomes of this process."""
        if not self.commands.hold_clocks:
            with super().steady_clocks(tell):
                yield
            return
        self.facts()
        wrong: list[str] = []
        try:
            with afterwards([filled(line, self.caller.values) for line in self.commands.release_clocks]) as wrong:
                self._hold(tell)
                yield
        finally:
            self._held = False
            for trouble in wrong:
                tell(f"The clocks of device '{self.profile.name}' are still held; give them back yourself: {trouble}")

    def _hold(self, tell: OnWait) -> None:
        try:
            self.caller.do("hold_clocks")
        except (CommandError, DeviceError) as error:
            tell(f"The clocks of device '{self.profile.name}' are left as they are: {error}")
            return
        self._held = True
        tell(f"The clocks of device '{self.profile.name}' are {CLOCKS}.")

    @contextlib.contextmanager
    def lease(self, *, on_wait: OnWait = ignore) -> Iterator[None]:
        """As `Device.lease`; raises DeviceError where the device is not there, or is not what it was."""
        with super().lease(on_wait=on_wait):
            was, found = self.facts(), self._ask()
            changed = [f"{key} was {was[key]}, is {found.get(key, 'unknown')}" for key in was if found[key] != was[key]]
            if changed:
                raise DeviceError(f"Device '{self.profile.name}' has changed meanwhile: {', '.join(changed)}.")
            yield

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[CommandSession]:
        with self._holding(artifact, inputs) as model:
            session = CommandSession(self, model)
            session.run(1)
            self._witness = self._witness or self._kept.enter_context(self._holding(artifact, inputs))
            yield session

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        """Where the profile has no ``predict``, on this machine; `Device.computes` tells."""
        if not self.computes:
            with self.scorer(artifact) as predict:
                yield predict
            return

        def there(inputs: Arrays) -> list[np.ndarray]:
            with self._holding(artifact, inputs) as model:
                return self._insisting(lambda: self._predict(model, artifact, batch=len(inputs[0]) if inputs else 1))

        yield there

    def scorer(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        kind: type[LocalDevice] = import_module(f"autoprune.devices.runtimes.{SCORERS[self.format]}").DEVICE
        return kind.here().predictor(artifact)

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> None:
        return None

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        return []

    def timed(self, model: Model, n: int) -> list[float]:
        """Seconds of ``n`` runs, or one figure over them. Raises as the class says."""
        return self._insisting(lambda: self._time(model, n))

    def _time(self, model: Model, n: int) -> list[float]:
        self.caller.push(model)
        began = time.monotonic()
        done = self.caller.do("run", **model.values, runs=str(n))
        elapsed = time.monotonic() - began
        try:
            found = durations(self.commands.parse, done, n)
        except UnreadError as error:
            raise CommandError(f"run printed {error}.{words(done)}", kind=UNREAD) from error
        if (claimed := n * statistics.fmean(found)) > elapsed:
            message = f"run says that {n} runs took {claimed:.3g} s, but took {elapsed:.3g} s itself: see parse.unit."
            raise CommandError(message, kind=UNREAD)
        return found

    def _predict(self, model: Model, artifact: Artifact, *, batch: int) -> list[np.ndarray]:
        outputs = model.folder / "outputs"
        shutil.rmtree(outputs, ignore_errors=True)
        outputs.mkdir()
        self.caller.push(model)
        self.caller.do("predict", **model.values, outputs=str(outputs))
        try:
            return read_outputs(outputs, artifact, batch=batch)
        except (OSError, ValueError) as error:
            raise CommandError(f"predict wrote no outputs that can be read: {error}.", kind=UNREAD) from error

    def _insisting(self, work: Callable[[], T]) -> T:
        for left in reversed(range(TRIES)):
            try:
                return work()
            except CommandError as error:
                if not left or error.kind == "hang":
                    raise self._blamed(error) from error
            self.check()
            self.caller.forget()
        raise AssertionError  # the last try returns or raises

    def _blamed(self, error: CommandError) -> AutopruneError:
        self.check()
        name = self.profile.name
        if self._witness is None and error.kind == UNREAD:
            return TargetError(f"Profile '{name}' does not fit its commands: {error}")
        if self._witness is not None:
            try:
                self._time(self._witness, 1)
            except CommandError:
                return DeviceError(f"Device '{name}': {error} A model that ran there before does not run now either.")
        return StageError(f"{name}: {error}", kind="runtime" if error.kind == UNREAD else error.kind)

    @contextlib.contextmanager
    def _holding(self, artifact: Artifact, inputs: Arrays) -> Iterator[Model]:
        self.facts()
        with self.caller.holding(artifact, inputs) as model:
            yield model


DEVICE = CommandDevice
