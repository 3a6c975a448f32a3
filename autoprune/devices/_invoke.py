"""Programs of this machine, started and bounded: in time, in what they print, in what they leave behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

MOST_BYTES, PART = 1 << 20, 1 << 16
LINGER_SECONDS = 0.5  # for what a program that has ended said last, where a child of it holds the pipe
TIMED_OUT, KILLED = 124, 128  # exit statuses: of timeout(1), and of shells beyond it, where a signal ended a program


@dataclass(frozen=True)
class Done:
    """How a program ended and what it printed; ``late`` where it was killed at its deadline."""

    status: int
    out: str
    err: str
    late: bool = False
    overlong: bool = False

    @property
    def kind(self) -> str:
        """What a failure is called: ``hang``, ``out_of_memory``, ``crash``, ``runtime``; as the agent calls it."""
        if self.late or self.status == TIMED_OUT:
            return "hang"
        number = -self.status if self.status < 0 else self.status - KILLED
        if number == signal.SIGKILL:
            return "out_of_memory"
        return "crash" if 0 < number <= signal.SIGRTMAX else "runtime"


def invoke(command: Sequence[str], *, timeout_s: float) -> Done:
    """Run ``command`` without input, at most for ``timeout_s``; whatever it started ends with it.

    Raises:
        OSError: it cannot be started.
    """
    with subprocess.Popen(  # noqa: S603 - an argument list
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        assert process.stderr
        said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        try:
            late = _listen(process, said, time.monotonic() + timeout_s)
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    out, err = (bytes(text) for text in said.values())
    long = len(out) + len(err) > MOST_BYTES
    out_text, err_text = (text[:MOST_BYTES].decode("utf-8", errors="replace") for text in (out, err))
    return Done(process.returncode, out_text, err_text, late=late, overlong=long)


def _listen(process: subprocess.Popen[bytes], said: dict[int, bytearray], until: float) -> bool:
    """Collect what it prints until it ends; whether it is late."""
    with selectors.DefaultSelector() as selector:
        for pipe in said:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ended = process.poll() is not None
            if ended:
                until = min(until, time.monotonic() + LINGER_SECONDS)
            left = until - time.monotonic()
            if left <= 0 or sum(map(len, said.values())) > MOST_BYTES:
                return not ended and left <= 0
            for key, _ in selector.select(min(left, LINGER_SECONDS)):
                part = os.read(key.fd, PART)
                said[key.fd] += part
                if not part:
                    selector.unregister(key.fd)
    try:
        process.wait(max(0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return True
    return False
