"""What all runners share. The host sends it along with each of them, so it needs the standard library alone."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

MEMORY_RUNS, PROFILED_RUNS = 3, 30
PADDING_BYTES = (64, 60_000)  # pieces below malloc's threshold for mapping pages, so that they shift what follows
OUT_OF_MEMORY = (
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "memoryerror",
    "cannot allocate memory",
    "out of memory",
)


class RunnerError(Exception):
    """What a runtime raised: exceptions of its own, which share no base class, and some of Python's."""

    def __init__(self, runtime: str, error: Exception) -> None:
        said = str(error) or type(error).__name__
        super().__init__(f"{runtime} failed: {said.strip()[:500]}")
        self.kind = "out_of_memory" if any(word in said.lower() for word in OUT_OF_MEMORY) else "runtime"


class BaseRunner:
    """One artifact. A runtime says how it is loaded, how its inputs are put in place, and how it predicts.

    Options: ``threads``; ``inputs``, dtype and shape of each array in the bytes that come with them.
    """

    name = ""
    """The runtime, for people."""

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        self._path, self._options = path, options
        self._inputs = unpacked(options["inputs"], data)
        self._random = random.Random(0)  # noqa: S311 - not cryptography
        self._session: Any = None
        self._infer: Callable[[], object] | None = None
        self._padding: list[bytearray] = []

    def import_runtime(self) -> Any:
        """Its module."""
        raise NotImplementedError

    def load(self, threads: int) -> Any:
        """A session of the artifact."""
        raise NotImplementedError

    def bind(self, session: Any) -> Callable[[], object]:
        """The inference of the inputs, which are in place, and nothing else."""
        raise NotImplementedError

    def predict(self, session: Any, inputs: list[Any]) -> list[Any]:
        """Output arrays of any number of samples."""
        raise NotImplementedError

    def do_renew(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load, elsewhere in memory than before."""
        self._session = self._infer = None  # first, so that the memory can be taken again: see `devices.timing`
        self._padding.clear()
        self._padding = [bytearray(self._random.randrange(*PADDING_BYTES)) for _ in range(self._random.randrange(64))]
        with self.failing():
            self._session = self.load(self._options["threads"])
            self._infer = self.bind(self._session)
        return {}, b""

    def do_run(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Seconds of ``n`` inferences, by this device's clock."""
        infer, clock = self._infer, time.perf_counter
        assert infer is not None
        samples = []
        with self.failing():
            for _ in range(request["n"]):
                began = clock()
                infer()
                samples.append(clock() - began)
        return {"seconds": samples}, b""

    def do_load(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load for predicting, on all cores."""
        with self.failing():
            self._session = self.load(os.cpu_count() or 1)
        return {}, b""

    def do_predict(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Outputs of one batch, described like the inputs."""
        with self.failing():
            outputs = self.predict(self._session, unpacked(request["inputs"], data))
        described = [{"dtype": str(array.dtype), "shape": list(array.shape)} for array in outputs]
        return {"outputs": described}, b"".join(array.tobytes() for array in outputs)

    def do_peak_memory(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The peak of the resident set while the model is loaded and run, minus the resident set just before."""
        self.import_runtime()  # so that it does not count
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # importing reached a peak of its own: forget it
        before = resident_bytes("VmRSS")
        with self.failing():
            session = self.load(self._options["threads"])
            for _ in range(MEMORY_RUNS):
                self.predict(session, self._inputs)
        return {"peak_memory_bytes": max(0, resident_bytes("VmHWM") - before)}, b""

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """What the runtime raises, as a `RunnerError`."""
        try:
            yield
        except RunnerError:
            raise
        except Exception as error:
            raise RunnerError(self.name, error) from error


def in_batches(predict: Callable[[list[Any]], list[Any]], inputs: list[Any], size: int) -> list[Any]:
    """Outputs of any number of samples of a model that takes ``size`` at a time; the last batch repeats its samples."""
    import numpy

    parts = []
    for start in range(0, len(inputs[0]), size):
        batch = [array[start : start + size] for array in inputs]
        here = len(batch[0])
        filled = [numpy.resize(array, (size, *array.shape[1:])) for array in batch]
        parts.append([output[:here] for output in predict(filled)])
    return [numpy.concatenate(outputs) for outputs in zip(*parts)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, nothing on stderr, Python's or the process's own: a runtime in C++ writes its remarks to either."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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
