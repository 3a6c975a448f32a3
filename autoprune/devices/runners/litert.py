"""LiteRT, wherever it runs: in this process, or in a worker of the agent on another device."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from autoprune.devices.runners._base import BaseRunner, in_batches, quiet


class Runner(BaseRunner):
    """An interpreter, whose tensors keep inputs and outputs."""

    name = "LiteRT"

    def import_runtime(self) -> Any:
        """Its module."""
        with quiet():
            from ai_edge_litert import interpreter

        return interpreter

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, and what of it a latency depends on."""
        self.import_runtime()
        return {"version": importlib.metadata.version("ai_edge_litert"), "conditions": {"delegate": "XNNPACK"}}, b""

    def load(self, threads: int) -> Any:
        """All delegates that the interpreter applies by itself: XNNPACK."""
        with quiet():
            session = self.import_runtime().Interpreter(self._path, num_threads=threads)
            session.allocate_tensors()
        return session

    def bind(self, session: Any) -> Callable[[], object]:
        """The inference of the inputs, whose outputs stay in the interpreter."""
        put(session, self._inputs)
        infer: Callable[[], object] = session.invoke
        return infer

    def predict(self, session: Any, inputs: list[Any]) -> list[Any]:
        """Output arrays of any number of samples."""

        def one(batch: list[Any]) -> list[Any]:
            put(session, batch)
            session.invoke()
            return [session.get_tensor(detail["index"]) for detail in session.get_output_details()]

        return in_batches(one, inputs, int(session.get_input_details()[0]["shape"][0]))

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Nothing: LiteRT's Python package has no profiler."""
        return {}, b""


def put(session: Any, inputs: list[Any]) -> None:
    """Inputs in place. Raises ValueError where their number, types or shapes are not the model's."""
    details = session.get_input_details()
    if len(details) != len(inputs):
        raise ValueError(f"{len(inputs)} inputs were given, the model has {len(details)}.")
    for detail, array in zip(details, inputs):
        session.set_tensor(detail["index"], array)
