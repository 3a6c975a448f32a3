"""The host's end of a connection to an agent: one request, one reply, and a deadline for each."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import IO, Any

from autoprune.devices import agent
from autoprune.errors import AutopruneError, DeviceError, StageError

START_SECONDS = 30.0
WORDS, WORDS_BYTES = 60, 1 << 16
GRACE_SECONDS = 5.0  # beyond what the agent itself waits for a worker
BOOT = """\
import os
def take(size):
    data = b""
    while len(data) < size: data += os.read(0, size - len(data)) or exit()
    return data
exec(compile(take(int(take(8))), "agent", "exec"))
"""
"""What the device's Python is started with: eight digits come in, the length of the agent's source, then the source."""
CANDIDATES = frozenset({"runtime", "out_of_memory", "crash", "hang"})
"""Kinds of error that the artifact may be to blame for; any other is the device's."""


class Connection:
    """A process that leads to a Python on the device, with the agent running in it.

    Args:
        command: argument list; its standard input and output are those of the device's Python, which runs `BOOT`.
        name: of the device, for messages.
    """

    def __init__(self, command: Sequence[str], name: str) -> None:
        self.name = name
        self.closed = False
        self._answered = False
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        self._process = subprocess.Popen(  # noqa: S603 - an argument list of ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=0,
            start_new_session=True,
        )
        source = files("autoprune.devices").joinpath("agent.py").read_bytes()
        self._preamble = b"%08d" % len(source) + source
        try:
            self.hello = self.ask("hello", timeout_s=START_SECONDS)[0]
            if self.hello.get("protocol") != agent.PROTOCOL:
                raise self._lost(f"it speaks protocol {self.hello.get('protocol')!r}, not {agent.PROTOCOL}")
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, *, timeout_s: float, data: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        """The reply to one request.

        Raises:
            StageError: the artifact may be at fault: it did not load or run, crashed, hung, took all memory.
            DeviceError: the device or the way to it is at fault.
        """
        if self.closed:
            raise DeviceError(f"Device '{self.name}' is lost: the connection was closed.")
        self._until = time.monotonic() + timeout_s + GRACE_SECONDS
        out = io.BytesIO(self._preamble)
        out.seek(0, io.SEEK_END)
        agent.write_frame(out, {"do": do, "timeout_s": timeout_s, **fields}, data)
        self._preamble = b""
        try:
            self._send(out.getbuffer())
            frame = agent.read_frame(self._receive)
        except (agent.RefusedError, OSError) as error:
            raise self._lost(str(error)) from error
        if frame is None:
            raise self._lost("the connection ended")
        self._answered = True
        reply, more = frame
        if "error" in reply:
            raise self._refused(str(reply["error"]), str(reply.get("message")))
        return reply, more

    def _send(self, data: memoryview) -> None:
        assert self._process.stdin
        pipe = self._process.stdin.fileno()
        while data:
            _, ready, _ = select.select([], [pipe], [], max(self._until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("it takes nothing in")
            data = data[os.write(pipe, data[: select.PIPE_BUF]) :]

    def _receive(self, most: int) -> bytes:
        assert self._process.stdout
        pipe = self._process.stdout.fileno()
        ready, _, _ = select.select([pipe], [], [], max(self._until - time.monotonic(), 0))
        if not ready:
            raise TimeoutError("nothing came back in time")
        return os.read(pipe, most)

    def _refused(self, kind: str, message: str) -> AutopruneError:
        if kind in CANDIDATES:
            return StageError(f"{self.name}: {message}", kind=kind)
        if kind == "missing":
            message = f"package '{message}' is missing there; get it with: python3 -m pip install {message}"
        return DeviceError(f"Device '{self.name}': {message}")

    def _lost(self, why: str) -> DeviceError:
        """What is said when the agent cannot be talked with any more, with the last words of the way to it."""
        words = " ".join(self.close().split()[-WORDS:])
        return DeviceError(
            f"Device '{self.name}' {'is lost' if self._answered else 'cannot be reached'}: {why}."
            + (f" What led there said: {words}" if words else "")
        )

    def close(self) -> str:
        """End the process and all that it started here; the agent ends when its input does.

        Returns what was printed on standard error.
        """
        if self.closed:
            return ""
        self.closed = True
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._said.seek(0)
        with self._said as said:
            return said.read(WORDS_BYTES).decode("utf-8", errors="replace")
