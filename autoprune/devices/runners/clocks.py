"""Holds the clocks of a board still, and gives them back: in a worker of the agent, only where the user allows it.

What they were is written to a file before anything is changed, and a guard is started, a process in a session of its
own that waits for the end of the pipe from this one. However this process ends (asked to, killed, with the agent, with
the connection, with the host), the guard sets everything back and removes the file. Where even the guard was killed,
the next one that holds the clocks finds the file and sets back what it says first.

Changed are: on a Jetson what ``jetson_clocks`` changes (kept by its ``--store``, set back by its ``--restore``);
elsewhere the governors of ``cpufreq``; and where the GPU counts, the clocks of the first NVIDIA GPU are locked
(``--lock-gpu-clocks``; set back means ``--reset-gpu-clocks``, since no command tells what a lock was before).
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import signal
from typing import Any, NoReturn

from autoprune.devices.runners._system import read, run

COMMAND_SECONDS = 20.0
MOST_OPEN = 256  # streams, where the system does not say which
STEADY = "performance"
GPU_CLOCKS = "--query-gpu=clocks.default_applications.graphics,clocks.max.graphics"


def done(*command: str) -> tuple[bool, str]:
    """Whether a command worked, and its last line; None of that name is no success and no words."""
    worked, out, complaint = run(*command, seconds=COMMAND_SECONDS)
    lines = f"{out}\n{complaint}".strip().splitlines() or [""]
    return worked, lines[-1][:200]


class Clocks:
    """The clocks below ``root``; ``kept`` is the file that remembers what they were."""

    def __init__(self, root: str, kept: str) -> None:
        self.kept, self._stored = kept, kept + ".jetson"
        self._policies = sorted(glob.glob(os.path.join(root, "sys/devices/system/cpu/cpufreq/policy*")))

    def present(self) -> dict[str, Any]:
        """What they are now, as `restore` wants it."""
        return {"governors": {os.path.basename(policy): read(_governor(policy)) for policy in self._policies}}

    def hold(self, write: Any, *, gpu: bool) -> tuple[list[str], list[str]]:
        """What was done, and what could not be; ``write`` keeps a state before it is left."""
        was = self.present()
        held: list[str] = []
        refused: list[str] = []
        with contextlib.suppress(OSError):
            os.remove(self._stored)  # or jetson_clocks asks whether it may
        worked, said = done("jetson_clocks", "--store", self._stored)
        if worked:
            write(dict(was, jetson_clocks=True))
            worked, said = done("jetson_clocks")
        if worked:
            held.append("jetson_clocks")
        elif said:
            refused.append("jetson_clocks: " + said)
        if not worked:
            write(was)
            self._govern(held, refused)
        if gpu:
            self._lock_gpu(write, dict(was, jetson_clocks=worked, gpu=True), held, refused)
        return held, refused

    def _govern(self, held: list[str], refused: list[str]) -> None:
        for policy in self._policies:
            if read(_governor(policy)) == STEADY:
                continue
            why = _write(_governor(policy), STEADY)
            (refused if why else held).append("governor of " + os.path.basename(policy) + (": " + why if why else ""))

    def _lock_gpu(self, write: Any, state: dict[str, Any], held: list[str], refused: list[str]) -> None:
        _, said = done("nvidia-smi", "--id=0", GPU_CLOCKS, "--format=csv,noheader,nounits")
        clocks = [one.strip() for one in said.split(",") if one.strip().isdigit()]
        if not clocks:
            return
        write(state)
        worked, said = done("nvidia-smi", "--id=0", "--lock-gpu-clocks={0},{0}".format(clocks[0]))
        if worked:
            held.append("GPU at " + clocks[0] + " MHz")
        else:
            refused.append("GPU: " + said)

    def restore(self, state: dict[str, Any]) -> bool:
        """Set everything back; whether all of it could be. The state may be from a file: nothing in it is believed."""
        well = True
        if state.get("jetson_clocks"):
            well &= done("jetson_clocks", "--restore", self._stored)[0]
        governors = state.get("governors")
        for policy in self._policies:
            governor = governors.get(os.path.basename(policy)) if isinstance(governors, dict) else None
            if isinstance(governor, str) and re.fullmatch("[a-z_]{1,32}", governor):
                well &= read(_governor(policy)) == governor or not _write(_governor(policy), governor)
        if state.get("gpu"):
            well &= done("nvidia-smi", "--id=0", "--reset-gpu-clocks")[0]
        return well

    def forget(self) -> None:
        """Remove what remembers."""
        for path in (self._stored, self.kept):
            with contextlib.suppress(OSError):
                os.remove(path)


class Runner:
    """Answers ``hold`` and ``give_back``; without an artifact."""

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        """Nothing is changed."""
        self._guard = self._pipe = 0

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Nothing yet."""
        return {}, b""

    def do_hold(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Hold them; ``root`` is where /sys is, ``gpu`` whether the GPU counts. Sentences, whatever cannot be done."""
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        clocks = Clocks(str(request["root"]), os.path.join(folder, "autoprune-clocks.json"))
        file = _locked(clocks.kept)
        if file is None:
            return {"held": [], "refused": ["another run holds them"]}, b""
        try:
            left = _state(file)
            if left and not clocks.restore(left):
                return {"held": [], "refused": ["what a run that was killed had changed cannot be set back"]}, b""
            self._guard, self._pipe = _guarded(clocks, file)
            held, refused = clocks.hold(lambda state: _keep(file, state), gpu=bool(request.get("gpu")))
        finally:
            os.close(file)  # the guard has it too
        return {"held": held, "refused": refused, "left": bool(left)}, b""

    def do_give_back(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Set them back; whether all could be."""
        if not self._guard:
            return {"restored": True}, b""
        os.close(self._pipe)
        _, status = os.waitpid(self._guard, 0)
        self._guard = 0
        return {"restored": not status}, b""


def _guarded(clocks: Clocks, file: int) -> tuple[int, int]:
    """The process that will set back what ``file`` says then, and the pipe whose end it waits for."""
    (ended, pipe), (ready, tell) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _guard(clocks, file, ended, tell)
    os.close(ended)
    os.close(tell)
    os.read(ready, 1)  # from here on it is in a session of its own, and nobody's signal ends both
    os.close(ready)
    return child, pipe


def _guard(clocks: Clocks, file: int, ended: int, tell: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for one in _open():
            if one not in (file, ended, tell):  # no stream of the connection is kept open, no pipe of this one
                with contextlib.suppress(OSError):
                    os.close(one)
        os.write(tell, b".")
        os.close(tell)
        os.read(ended, 1)
        if clocks.restore(_state(file)):
            clocks.forget()
            status = 0
    finally:
        os._exit(status)


def _locked(path: str) -> int | None:
    """The file, locked for this process and those that it starts; None where another one has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # a guard removed it meanwhile


def _open() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return list(range(MOST_OPEN))


def _state(file: int) -> dict[str, Any]:
    try:
        state = json.loads(os.pread(file, 1 << 16, 0).decode("utf-8"))
    except (ValueError, OSError):
        return {}
    return state if isinstance(state, dict) else {}


def _keep(file: int, state: dict[str, Any]) -> None:
    """On the disk before anything is changed."""
    text = json.dumps(state).encode("utf-8")
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
    os.fsync(file)


def _governor(policy: str) -> str:
    return os.path.join(policy, "scaling_governor")


def _write(path: str, text: str) -> str:
    """Why it could not be written; empty where it was."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        return str(error.strerror)
    return ""
