"""Does what the commands of a profile say, and keeps account of the models that are on the device."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from autoprune.commands import PLACEHOLDERS, Commands, filled
from autoprune.devices._base import Arrays
from autoprune.devices._files import write_inputs
from autoprune.devices._invoke import MOST_BYTES, Done, invoke
from autoprune.errors import DeviceError, TargetError
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

KEPT = 8  # models that stay on the device though they are not in use
WORDS = 60  # of what a command said last
UNREAD = "unread"  # the kind of failure of which no exit status tells
GRACE_SECONDS = 5.0  # for a command that ends itself after {timeout}


class CommandError(Exception):
    """A command did not do what it is for; ``kind`` is that of `Done`, or ``UNREAD``."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Model:
    """A model with its inputs, as files of this machine that nobody else changes; ``values`` fill placeholders."""

    folder: Path
    values: Mapping[str, str]


class Caller:
    """The commands of ``profile``, with their placeholders filled in.

    Raises:
        TargetError: a program, or the tool that is sent to the device, is not here.
    """

    def __init__(self, profile: HardwareProfile, commands: Commands) -> None:
        self._name, self._commands = profile.name, commands
        self._check_programs()
        self.tool = Path(commands.tool).expanduser().absolute() if commands.tool else None
        if self.tool and not self.tool.is_file():
            raise TargetError(
                f"Profile '{profile.name}' sends the program {self.tool} to the device, and there is no such file: "
                "get it, and say where it is in command.tool."
            )
        self.values = {
            "tool": str(self.tool or ""),
            "threads": str(profile.options.threads),
            "batch": str(profile.options.batch),
            "timeout": str(max(1, int(commands.timeout_s))),
        }
        self._work = Path(tempfile.mkdtemp(prefix="autoprune-"))
        self._number = count()
        self._sent: dict[str, None] = {}  # names of models on the device, the least recently used first
        self._used: Counter[str] = Counter()
        self._ready = False
        weakref.finalize(self, shutil.rmtree, self._work, ignore_errors=True)

    def _check_programs(self) -> None:
        for program in sorted({line[0] for step in PLACEHOLDERS for line in self._commands.lines(step)}):
            if "{" not in program and not shutil.which(program):
                raise TargetError(f"Profile '{self._name}' needs program '{program}', which is not on this machine.")

    def do(self, step: str, **values: str) -> Done:
        """All lines of a step; what the last one printed. Raises as `call`."""
        done = Done(0, "", "")
        for line in self._commands.lines(step):
            done = self.call(line, **values)
        return done

    def call(self, line: tuple[str, ...], **values: str) -> Done:
        """One command line.

        Raises:
            CommandError: it failed, hung, or printed too much; the message goes on after the program's name.
            DeviceError: it cannot be started.
        """
        command = filled(line, {**self.values, **values})
        try:
            done = invoke(command, timeout_s=self._commands.timeout_s + GRACE_SECONDS)
        except (OSError, ValueError) as error:
            raise DeviceError(f"Device '{self._name}': {command[0]} cannot be started: {error}.") from error
        if done.overlong:
            raise CommandError(f"{command[0]} printed more than {MOST_BYTES} bytes.", kind=UNREAD)
        if done.late:
            raise CommandError(f"{command[0]} had not ended in time, so it was killed.{words(done)}", kind="hang")
        if done.status:
            raise CommandError(f"{command[0]} ended with status {done.status}.{words(done)}", kind=done.kind)
        return done

    def expect(self, step: str, **values: str) -> None:
        """What no candidate can be blamed for. Raises DeviceError."""
        try:
            self.do(step, **values)
        except CommandError as error:
            raise DeviceError(f"Device '{self._name}' cannot be used, {step} failed: {error}") from error

    def set_up(self) -> None:
        """Once, and again after `forget`. Raises DeviceError."""
        if not self._ready:
            self.expect("setup")
            self._ready = True

    def forget(self) -> None:
        """Take nothing for granted of what was sent: the device may have been away."""
        self._ready = False
        self._sent.clear()

    def push(self, model: Model) -> None:
        """Send it where it is not on the device already. Raises DeviceError."""
        self.set_up()
        name = model.values["name"]
        if name not in self._sent:
            self.expect("push", **model.values)
        self._sent.pop(name, None)
        self._sent[name] = None

    @contextlib.contextmanager
    def holding(self, artifact: Artifact, inputs: Arrays) -> Iterator[Model]:
        """``artifact`` and ``inputs`` as files; models beyond ``KEPT`` that nobody holds are removed afterwards."""
        folder = self._work / str(next(self._number))
        write_inputs(folder / "inputs", inputs)
        data = artifact.path.read_bytes()
        name = f"{hashlib.sha256(data).hexdigest()}{artifact.path.suffix}"
        (folder / name).write_bytes(data)
        values = {"artifact": str(folder / name), "name": name, "inputs": str(folder / "inputs")}
        self._used[name] += 1
        try:
            yield Model(folder, values)
        finally:
            self._used[name] -= 1
            shutil.rmtree(folder, ignore_errors=True)
            self._tidy()

    def _tidy(self) -> None:
        idle = [name for name in self._sent if not self._used[name]]
        self._remove(idle[: max(0, len(idle) - KEPT)])

    def _remove(self, names: Iterable[str]) -> None:
        with contextlib.suppress(DeviceError, CommandError):  # a device that is away keeps them
            for name in names:
                del self._sent[name]
                self.do("remove", name=name)

    def close(self) -> None:
        """Remove from the device what was sent to it."""
        self._remove(list(self._sent))


def words(done: Done) -> str:
    """What a program said last, for a message; empty where it said nothing."""
    said = " ".join((done.err.strip() or done.out.strip()).split()[-WORDS:])[-2000:]
    return f" It said: {said}" if said else ""
