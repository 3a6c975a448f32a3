"""ONNX Runtime on the CPU of this machine."""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from autoprune.devices import _cpu
from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices._operators import blocked_names, operator_times
from autoprune.errors import StageError
from autoprune.records import Artifact

PROVIDERS = ["CPUExecutionProvider"]
PADDING_BYTES = (64, 60_000)  # pieces below malloc's threshold for mapping pages, so that they shift what follows
PROFILED_RUNS = 30
ALONE_TIMEOUT_SECONDS = 120
KILLED = 9
OUT_OF_MEMORY = ("failed to allocate", "bad_alloc", "bad allocation", "memoryerror", "cannot allocate memory")
QUIET = 4  # ONNX Runtime's log level "fatal": its errors come as exceptions
SPINNING = "session.intra_op.allow_spinning"


class OnnxRuntimeSession(Session):
    """Inputs and outputs are bound once per load, so that a run is the inference and nothing else."""

    def __init__(self, load: Callable[[], Any], inputs: Arrays) -> None:
        self._load, self._inputs = load, [np.ascontiguousarray(array) for array in inputs]
        self._random = random.Random(0)  # noqa: S311 - not cryptography
        self._session: Any = None
        self._binding: Any = None
        self.renew()

    def close(self) -> None:
        """Free the memory, whoever still holds this object."""
        self._session = self._binding = None

    def renew(self) -> None:
        self.close()  # first, so that memory holds one model at a time
        self._padding = [bytearray(self._random.randrange(*PADDING_BYTES)) for _ in range(self._random.randrange(64))]
        self._session = self._load()
        self._binding = self._bind()

    def _bind(self) -> Any:
        binding = self._session.io_binding()
        with _runtime_errors():
            for node, array in zip(self._session.get_inputs(), self._inputs, strict=True):
                binding.bind_cpu_input(node.name, array)
            for node in self._session.get_outputs():
                binding.bind_output(node.name, "cpu")
        return binding

    def run(self, n: int) -> list[float]:
        infer, binding, clock = self._session.run_with_iobinding, self._binding, time.perf_counter
        samples = []
        with _runtime_errors():
            for _ in range(n):
                began = clock()
                infer(binding)
                samples.append(clock() - began)
        return samples

    def foreign_seconds(self) -> float:
        return _cpu.foreign_seconds()


class OnnxRuntimeDevice(Device):
    """The CPU execution provider: sequential, all graph optimisations, ``options.threads`` threads for timing.

    With more than one thread the pool spins while it waits (ONNX Runtime's default, recorded in the conditions).
    Processor affinity is left alone: a thread that is pinned cannot evade other work.
    """

    runtime: ClassVar[str] = "onnxruntime"
    lease_name: ClassVar[str] = "cpu"

    @property
    def runtime_version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    def facts(self) -> dict[str, str]:
        return {"runtime": self.runtime, "runtime_version": self.runtime_version, **_cpu.cpu_facts()}

    def conditions(self) -> dict[str, str]:
        return {"provider": PROVIDERS[0], SPINNING: "1", **_cpu.cpu_conditions()}

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[OnnxRuntimeSession]:
        session = OnnxRuntimeSession(partial(_load, artifact.path, self.profile.options.threads), inputs)
        try:
            yield session
        finally:
            session.close()

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        session = _load(artifact.path, os.cpu_count() or 1)
        names = [node.name for node in session.get_inputs()]

        def predict(inputs: Arrays) -> list[np.ndarray]:
            with _runtime_errors():
                return list(session.run(None, dict(zip(names, inputs, strict=True))))

        yield predict

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int:
        with tempfile.TemporaryDirectory() as folder:
            stored = Path(folder) / "inputs.npz"
            np.savez(stored, *inputs)
            printed = _run_alone("_peak_memory.py", str(artifact.path), str(stored), str(self.profile.options.threads))
        return int(json.loads(printed)["peak_memory_bytes"])

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        with tempfile.TemporaryDirectory() as folder:
            prefix = str(Path(folder) / "profile")
            session = _load(artifact.path, self.profile.options.threads, profile_prefix=prefix)
            OnnxRuntimeSession(lambda: session, inputs).run(PROFILED_RUNS)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return operator_times(events, blocked_names(artifact.path))


def _run_alone(script: str, *arguments: str) -> str:
    """What the script beside this file prints, run in a process of its own that imports nothing of this one."""
    # -P: the folder of the script holds a module named onnxruntime
    command = [sys.executable, "-P", str(Path(__file__).with_name(script)), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and script
            command, capture_output=True, text=True, check=False, timeout=ALONE_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise StageError(f"{script} did not end in {ALONE_TIMEOUT_SECONDS} s.", kind="runtime") from error
    if done.returncode == -KILLED:
        raise StageError("The process was killed, most likely for want of memory.", kind="out_of_memory")
    if done.returncode:
        raise _stage_error(done.stderr.strip().rpartition("\n")[2])
    return done.stdout


def _load(path: Path, threads: int, *, profile_prefix: str | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry(SPINNING, "1")
    options.log_severity_level = QUIET
    if profile_prefix:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    with _runtime_errors():
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)


@cache
def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: exceptions of its own, which share no base class, and some of Python's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, MemoryError, ValueError, OSError)


@contextlib.contextmanager
def _runtime_errors() -> Iterator[None]:
    """Turn what ONNX Runtime raises into a StageError."""
    try:
        yield
    except _onnxruntime_errors() as error:
        raise _stage_error(str(error) or type(error).__name__) from error


def _stage_error(said: str) -> StageError:
    out_of_memory = any(word in said.lower() for word in OUT_OF_MEMORY)
    return StageError(
        f"ONNX Runtime failed: {said.strip()[:500]}", kind="out_of_memory" if out_of_memory else "runtime"
    )
