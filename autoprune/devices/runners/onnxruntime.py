"""ONNX Runtime, wherever it runs: in this process, or in a worker of the agent on another device."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from typing import Any

from autoprune.devices.runners._base import PROFILED_RUNS, BaseRunner

PROVIDERS = ["CPUExecutionProvider"]
QUIET = 4  # ONNX Runtime's log level "fatal": its errors come as exceptions
SPINNING = "session.intra_op.allow_spinning"


class Runner(BaseRunner):
    """Inputs and outputs are bound once per load, so that a run is the inference and nothing else."""

    name = "ONNX Runtime"

    def import_runtime(self) -> Any:
        """Its module."""
        import onnxruntime

        return onnxruntime

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, and what of it a latency depends on."""
        settings = {"provider": PROVIDERS[0], SPINNING: "1"}
        return {"version": self.import_runtime().__version__, "conditions": settings}, b""

    def load(self, threads: int, *, profile: str = "") -> Any:
        """Sequential, all graph optimisations."""
        onnxruntime = self.import_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry(SPINNING, "1")
        options.log_severity_level = QUIET
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        return onnxruntime.InferenceSession(self._path, options, providers=PROVIDERS)

    def bind(self, session: Any) -> Callable[[], object]:
        """The inference of the inputs, whose outputs stay in the binding."""
        self._binding = session.io_binding()
        for node, array in zip(session.get_inputs(), self._inputs):
            self._binding.bind_cpu_input(node.name, array)
        for node in session.get_outputs():
            self._binding.bind_output(node.name, "cpu")
        return functools.partial(session.run_with_iobinding, self._binding)

    def predict(self, session: Any, inputs: list[Any]) -> list[Any]:
        """Output arrays of one batch."""
        names = [node.name for node in session.get_inputs()]
        if len(names) != len(inputs):
            raise ValueError(f"{len(inputs)} inputs were given, the model has {len(names)}.")
        return list(session.run(None, dict(zip(names, inputs))))

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The profile of ONNX Runtime, as it writes it."""
        with tempfile.TemporaryDirectory() as folder, self.failing():
            session = self.load(self._options["threads"], profile=os.path.join(folder, "profile"))
            for _ in range(PROFILED_RUNS):
                self.predict(session, self._inputs)
            with open(session.end_profiling(), "rb") as file:
                return {}, file.read()
