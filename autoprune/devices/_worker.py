"""The host's end of a worker: a runner with an artifact, on the other side of a connection."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from autoprune.devices._base import Arrays
from autoprune.devices._wire import Connection
from autoprune.errors import DeviceError

RUNNERS = "autoprune.devices.runners"
BESIDE = re.compile(r"^from autoprune\.devices\.runners\.(_\w+) import", re.MULTILINE)
LOAD = """\
import sys, types
def load(name, text):
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(text, name, "exec"), vars(module))"""
SECONDS = 60.0  # for what does not depend on the size of anything
BYTES_PER_SECOND = 1e6  # slower connections than that are none


class Sent(Protocol):
    """What is sent of a runner: the class of a device says it, or a `Plain`."""

    @property
    def runner(self) -> str:
        """Its module in ``autoprune.devices.runners``."""

    @property
    def imports(self) -> tuple[str, ...]:
        """What the agent imports for it."""

    @property
    def deadline_s(self) -> float:
        """For one request to it, beside what the connection takes."""


@dataclass(frozen=True)
class Plain:
    """A runner that needs no runtime."""

    runner: str
    imports: tuple[str, ...] = ()
    deadline_s: float = SECONDS


BOARD = Plain("board")


class Worker:
    """A runner in a worker of the agent.

    Args:
        connection: to the agent.
        kind: of runner.
        settings: what the runner is told.
        inputs: for timing.
        artifact: ``sha256`` of one that the agent has, or the ``path`` of one there; nothing where none is needed.
    """

    def __init__(
        self,
        connection: Connection,
        kind: Sent,
        settings: Mapping[str, Any] = MappingProxyType({}),
        inputs: Arrays = (),
        **artifact: str,
    ) -> None:
        self._connection = connection
        self._deadline_s = kind.deadline_s
        source = runner_source(kind.runner)
        described, data = packed(inputs)
        self.hello, _ = connection.ask(
            "open",
            timeout_s=SECONDS + len(data) / BYTES_PER_SECOND,
            data=source + data,
            source_bytes=len(source),
            imports=kind.imports,
            options={**settings, "inputs": described},
            **artifact,
        )
        if not isinstance(self.hello.get("worker"), int):
            raise DeviceError(f"Device '{connection.name}' opened nothing: it runs no agent of ours.")

    def ask(self, do: str, data: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        """See `Connection.ask`."""
        seconds = self._deadline_s + len(data) / BYTES_PER_SECOND
        return self._connection.ask(do, timeout_s=seconds, data=data, worker=self.hello["worker"], **fields)

    def ask_in_turn(self, *steps: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What is replied to each of several requests without bytes, asked as one. Raises as `Connection.ask`."""
        timed = [{**step, "timeout_s": self._deadline_s} for step in steps]
        reply, _ = self._connection.ask(
            "in_turn", timeout_s=len(steps) * self._deadline_s, worker=self.hello["worker"], steps=timed
        )
        replies = reply.get("replies")
        if not isinstance(replies, list) or [type(one) for one in replies] != [dict] * len(steps):
            raise DeviceError(f"Device '{self._connection.name}' left questions open: it runs no agent of ours.")
        return replies

    def close(self) -> None:
        """End the worker; a connection that is gone has ended it already."""
        with contextlib.suppress(DeviceError):
            self._connection.ask("close", timeout_s=SECONDS, worker=self.hello["worker"])


def runner_source(name: str) -> bytes:
    """The runner ``name`` with the files beside it that it imports, as one source for a Python without autoprune."""
    source = files(RUNNERS).joinpath(f"{name}.py").read_text(encoding="utf-8")
    parts = {part: files(RUNNERS).joinpath(f"{part}.py").read_text(encoding="utf-8") for part in BESIDE.findall(source)}
    loads = [f"load({RUNNERS + '.' + part!r}, {text!r})" for part, text in [*parts.items(), (name, source)]]
    return "\n".join([LOAD, *loads, f"from {RUNNERS}.{name} import Runner\n"]).encode()


def packed(arrays: Arrays) -> tuple[list[dict[str, Any]], bytes]:
    """Dtypes and shapes, and the bytes of all one after the other."""
    described = [{"dtype": str(array.dtype), "shape": list(array.shape)} for array in arrays]
    return described, b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def unpacked(described: Any, data: bytes) -> list[np.ndarray]:
    """The opposite of `packed`. Raises DeviceError where the two do not fit."""
    arrays, start = [], 0
    try:
        for one in described:
            kind, shape = np.dtype(one["dtype"]), [int(size) for size in one["shape"]]
            arrays.append(np.frombuffer(data, kind, math.prod(shape), start).reshape(shape).copy())
            start += arrays[-1].nbytes
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise DeviceError(f"The device gave outputs that cannot be read: {error}.") from error
    return arrays
