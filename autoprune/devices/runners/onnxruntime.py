"""ONNX Runtime, wherever it runs: in this process, or in a worker of the agent on another device."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable
from typing import Any

from autoprune.devices.runners._base import PROFILED_RUNS, BaseRunner, RunnerError

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "xnnpack": ["XnnpackExecutionProvider"],
    "cuda": ["CUDAExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],  # the second for what the first does not take
}
QUIET = 4  # ONNX Runtime's log level "fatal": its errors come as exceptions
SPINNING = "session.intra_op.allow_spinning"
SMALL_BYTES = 2**27  # kept in memory beside what is loaded; of a larger one, reading is what takes long
PRECISE = "session.x64quantprecision"  # without VNNI: sums of 8-bit products that do not saturate, slower


class ProviderError(RunnerError):
    """The execution provider is not there, or steps back: no candidate's fault."""

    def __init__(self, message: str) -> None:
        super().__init__("ONNX Runtime", ValueError(message))
        self.kind = "provider"


class Runner(BaseRunner):
    """Inputs and outputs are bound once per load, so that a run is the inference and nothing else.

    On a GPU it includes the copies to and from it: arrays are in the host's memory, as with every other provider.
    Options: ``provider``, a key of `PROVIDERS`; ``spinning``, whether threads that wait do so busily; ``precise``,
    whether 8-bit products are summed as they are defined, also where this CPU's fast way saturates.
    """

    name = "ONNX Runtime"
    _optimized = b""
    """The artifact as ONNX Runtime optimised it, where that is known."""

    def import_runtime(self) -> Any:
        """Its module."""
        import onnxruntime

        return onnxruntime

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, and what of it a latency depends on."""
        onnxruntime, wanted = self.import_runtime(), self._providers()[0]
        available = onnxruntime.get_available_providers()
        if wanted not in available:
            raise ProviderError(f"this build has no {wanted}, it has {', '.join(available)}")
        settings = {"provider": wanted, SPINNING: self._spinning()}
        return {"version": onnxruntime.__version__, "facts": {"provider": wanted}, "conditions": settings}, b""

    def _providers(self) -> list[str]:
        return PROVIDERS[self._options.get("provider", "cpu")]

    def _spinning(self) -> str:
        return "1" if self._options.get("spinning", self._providers() != PROVIDERS["xnnpack"]) else "0"

    def do_renew(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Optimise the graph the first time alone: that takes longer than all else of loading it.

        Source: ONNX Runtime's documentation, "Graph Optimizations in ONNX Runtime", offline mode.
        """
        if not self._optimized and self._providers() == PROVIDERS["cpu"] and os.path.getsize(self._path) < SMALL_BYTES:
            with contextlib.suppress(Exception):  # a full disk only costs time; what else is wrong is raised below
                self._optimized = self._optimize()
        return super().do_renew(request, data)

    def _optimize(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            self.load(1, optimized=(path := os.path.join(folder, "optimized.onnx")))
            with open(path, "rb") as file:
                return file.read()

    def load(self, threads: int, *, profile: str = "", optimized: str = "") -> Any:
        """Sequential, all graph optimisations; XNNPACK has threads of its own, ONNX Runtime's then stand aside.

        That is as ONNX Runtime's documentation of XNNPACK recommends it. ``profile`` and ``optimized`` are files to be
        written: a profile, and the artifact as it was optimised.
        """
        onnxruntime, providers = self.import_runtime(), self._providers()
        own = providers == PROVIDERS["xnnpack"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 1 if own else threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL if self._optimized else levels.ORT_ENABLE_ALL
        options.add_session_config_entry(SPINNING, self._spinning())
        options.add_session_config_entry(PRECISE, "1" if self._options.get("precise") else "0")
        options.log_severity_level = QUIET
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        if optimized:
            options.optimized_model_filepath = optimized
        more = [{"intra_op_num_threads": str(threads)} if own else {} for _ in providers]
        session = onnxruntime.InferenceSession(
            self._optimized or self._path, options, providers=providers, provider_options=more
        )
        found = session.get_providers()[0]
        if found != providers[0]:
            raise ProviderError(f"{providers[0]} does not start, and {found} took its place")
        return session

    def bind(self, session: Any) -> Callable[[], object]:
        """The inference of the inputs, whose outputs stay in the binding."""
        binding = session.io_binding()
        for node, array in zip(session.get_inputs(), self._inputs):
            binding.bind_cpu_input(node.name, array)
        for node in session.get_outputs():
            binding.bind_output(node.name, "cpu")
        return functools.partial(session.run_with_iobinding, binding)

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
