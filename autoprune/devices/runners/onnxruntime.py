"""ONNX Runtime, wherever it runs: in this process, or in a worker of the agent on another device."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from typing import Any

PROVIDERS = ["CPUExecutionProvider"]
PROFILED_RUNS, MEMORY_RUNS = 30, 3
PADDING_BYTES = (64, 60_000)  # pieces below malloc's threshold for mapping pages, so that they shift what follows
OUT_OF_MEMORY = ("failed to allocate", "bad_alloc", "bad allocation", "memoryerror", "cannot allocate memory")
QUIET = 4  # ONNX Runtime's log level "fatal": its errors come as exceptions
SPINNING = "session.intra_op.allow_spinning"


class RunnerError(Exception):
    """What ONNX Runtime raised: exceptions of its own, which share no base class, and some of Python's."""

    def __init__(self, error: Exception) -> None:
        said = str(error) or type(error).__name__
        super().__init__(f"ONNX Runtime failed: {said.strip()[:500]}")
        self.kind = "out_of_memory" if any(word in said.lower() for word in OUT_OF_MEMORY) else "runtime"


class Runner:
    """One artifact. Inputs and outputs are bound once per load, so that a run is the inference and nothing else.

    Options: ``threads``; ``inputs``, dtype and shape of each array in the bytes that come with them.
    """

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        self._path, self._options = path, options
        self._inputs = unpacked(options["inputs"], data)
        self._random = random.Random(0)  # noqa: S311 - not cryptography
        self._session: Any = None
        self._binding: Any = None

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, and what of it a latency depends on."""
        import onnxruntime

        settings = {"provider": PROVIDERS[0], SPINNING: "1"}
        return {"version": onnxruntime.__version__, "conditions": settings}, b""

    def do_renew(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load, elsewhere in memory than before."""
        self._session = self._binding = None  # first, so that memory holds one model at a time
        self._padding = [bytearray(self._random.randrange(*PADDING_BYTES)) for _ in range(self._random.randrange(64))]
        self._session = load(self._path, self._options["threads"])
        try:
            self._binding = self._session.io_binding()
            for node, array in zip(self._session.get_inputs(), self._inputs):
                self._binding.bind_cpu_input(node.name, array)
            for node in self._session.get_outputs():
                self._binding.bind_output(node.name, "cpu")
        except Exception as error:
            raise RunnerError(error) from error
        return {}, b""

    def do_run(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Seconds of ``n`` inferences, by this device's clock."""
        infer, binding, clock = self._session.run_with_iobinding, self._binding, time.perf_counter
        samples = []
        try:
            for _ in range(request["n"]):
                began = clock()
                infer(binding)
                samples.append(clock() - began)
        except Exception as error:
            raise RunnerError(error) from error
        return {"seconds": samples}, b""

    def do_load(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load for predicting, on all cores."""
        self._session = load(self._path, os.cpu_count() or 1)
        return {}, b""

    def do_predict(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Outputs of one batch, described like the inputs."""
        outputs = predict(self._session, unpacked(request["inputs"], data))
        described = [{"dtype": str(array.dtype), "shape": list(array.shape)} for array in outputs]
        return {"outputs": described}, b"".join(array.tobytes() for array in outputs)

    def do_peak_memory(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The peak of the resident set while the model is loaded and run, minus the resident set just before."""
        import onnxruntime  # noqa: F401 - so that it does not count

        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # importing reached a peak of its own: forget it
        before = resident_bytes("VmRSS")
        session = load(self._path, self._options["threads"])
        for _ in range(MEMORY_RUNS):
            predict(session, self._inputs)
        return {"peak_memory_bytes": max(0, resident_bytes("VmHWM") - before)}, b""

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The profile of ONNX Runtime, as it writes it."""
        with tempfile.TemporaryDirectory() as folder:
            session = load(self._path, self._options["threads"], profile=os.path.join(folder, "profile"))
            for _ in range(PROFILED_RUNS):
                predict(session, self._inputs)
            with open(session.end_profiling(), "rb") as file:
                return {}, file.read()


def load(path: str, threads: int, *, profile: str = "") -> Any:
    """A session: sequential, all graph optimisations. Raises RunnerError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry(SPINNING, "1")
    options.log_severity_level = QUIET
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        return onnxruntime.InferenceSession(path, options, providers=PROVIDERS)
    except Exception as error:
        raise RunnerError(error) from error


def predict(session: Any, inputs: list[Any]) -> list[Any]:
    """Output arrays of one batch. Raises RunnerError."""
    names = [node.name for node in session.get_inputs()]
    try:
        if len(names) != len(inputs):
            raise ValueError(f"{len(inputs)} inputs were given, the model has {len(names)}.")
        return list(session.run(None, dict(zip(names, inputs))))
    except Exception as error:
        raise RunnerError(error) from error


def unpacked(described: list[dict[str, Any]], data: bytes) -> list[Any]:
    """Arrays from their dtypes and shapes, and their bytes one after the other; each in memory of its own."""
    arrays: list[Any] = []
    start = 0
    for one in described:
        import numpy

        arrays.append(numpy.ndarray(one["shape"], one["dtype"], data, start).copy())
        start += arrays[-1].nbytes
    return arrays


def resident_bytes(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process; where the system is not Linux, its peak so far."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return 1024 * int(file.read().partition(f"{name}:")[2].split()[0])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
