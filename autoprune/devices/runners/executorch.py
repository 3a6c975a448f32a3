"""ExecuTorch, wherever it runs: in this process, or in a worker of the agent on another device."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import tempfile
import time
import weakref
from collections.abc import Callable
from typing import Any

from autoprune.devices.runners._base import PROFILED_RUNS, BaseRunner, in_batches, quiet

LOADED: weakref.WeakSet[Session] = weakref.WeakSet()
"""Sessions of this process. They hold on to its only pool of threads, which must not be replaced under them."""


class Session:
    """A program and its method."""

    def __init__(self, library: Any, path: str, *, profile: bool = False) -> None:
        checked = library.Verification.InternalConsistency
        self.program = library._load_program(path, enable_etdump=profile, program_verification=checked)
        self.method = self.program.load_method("forward")
        meta = self.method.method_meta()
        self.batch = int(meta.input_tensor_meta(0).sizes()[0]) if meta.num_inputs() else 1
        LOADED.add(self)


class Runner(BaseRunner):
    """The runtime takes PyTorch's tensors; these share the memory of the arrays."""

    name = "ExecuTorch"

    def import_runtime(self) -> Any:
        """Its module."""
        with quiet():
            from executorch.extension.pybindings import portable_lib

        return portable_lib

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, and what of it a latency depends on."""
        self.import_runtime()
        return {"version": importlib.metadata.version("executorch"), "conditions": {"backend": "XNNPACK"}}, b""

    def load(self, threads: int, *, profile: bool = False) -> Any:
        """With the timed number of threads always: there is one pool of them in a process."""
        library, wanted = self.import_runtime(), self._options["threads"]
        with quiet():
            if library._threadpool_get_thread_count() != wanted:
                gc.collect()  # what an exception holds is freed late
                if LOADED:
                    raise RuntimeError(f"this process has models loaded with other than {wanted} threads")
                library._unsafe_reset_threadpool(wanted)
            return Session(library, self._path, profile=profile)

    def bind(self, session: Any) -> Callable[[], object]:
        """The inference of the inputs, which `do_run` puts in place."""
        self._tensors = tensors(self._inputs)
        with quiet():
            session.method.set_inputs(self._tensors)
        infer: Callable[[], object] = session.method.execute
        return infer

    def do_run(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Seconds of ``n`` inferences; a run may use the memory of its inputs, so these are put in place each time."""
        infer, put, clock = self._infer, self._session.method.set_inputs, time.perf_counter
        assert infer is not None
        samples = []
        with self.failing():
            for _ in range(request["n"]):
                put(self._tensors)
                began = clock()
                infer()
                samples.append(clock() - began)
        return {"seconds": samples}, b""

    def predict(self, session: Any, inputs: list[Any]) -> list[Any]:
        """Output arrays of any number of samples."""

        def one(batch: list[Any]) -> list[Any]:
            with quiet():
                return [output.numpy() for output in session.method.call(tensors(batch))]

        return in_batches(one, inputs, session.batch)

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The profile of ExecuTorch, an ETDump, as it writes it."""
        with tempfile.TemporaryDirectory() as folder, self.failing():
            session = self.load(self._options["threads"], profile=True)
            for _ in range(PROFILED_RUNS):
                self.predict(session, self._inputs)
            path = os.path.join(folder, "profile.etdp")
            session.program.write_etdump_result_to_file(path, "")
            with open(path, "rb") as file:
                return {}, file.read()


def tensors(arrays: list[Any]) -> list[Any]:
    """The same memory, as the runtime takes it."""
    import torch

    return [torch.from_numpy(array) for array in arrays]
